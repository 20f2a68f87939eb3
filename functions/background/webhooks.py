"""Handler of the webhooks queue: sends the results of jobs to receivers, repeatedly for a day if they fail.

The message of a failed attempt is hidden until the next one.  After the last attempt it becomes a dead letter, and
the job is marked.  Should the queue lose the message, the sweep sends it again.  The body is the message that
WebSocket clients receive; its id is the job's, the same at every attempt.
"""

import json
import random
from collections.abc import Callable
from functools import partial

import structlog

from functions.background import Event, Record, handle_batch
from functions.websocket import server_messages
from pipeline.access import webhook_receivers
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.clients.webhook_client import WebhookClient, WebhookRefused
from pipeline.contract import layout
from pipeline.contract.messages.webhooks import (
    ATTEMPTS,
    WebhookDelivery,
    WebhookFailure,
    parse_delivery,
    retry_delay,
    signed_headers,
)
from pipeline.contract.records import Outcome
from pipeline.domain import jobs, webhook_attempts
from pipeline.errors import PipelineError, Unavailable

log = structlog.get_logger(__name__)


async def handle(
    resources: Resources, event: Event, client: WebhookClient, jitter: Callable[[], float] = random.random
) -> Event:
    """Handle an SQS batch of deliveries."""
    return await handle_batch(event, partial(_fails, resources, client, jitter))


async def _fails(resources: Resources, client: WebhookClient, jitter: Callable[[], float], record: Record) -> bool:
    delivery = parse_delivery(record["body"])
    if delivery is None:
        log.warning("message is no webhook", message_id=record["messageId"])
        return False
    with structlog.contextvars.bound_contextvars(job_id=delivery.job_id):
        try:
            number = await _begin_next(resources, delivery)
        except Unavailable as error:
            log.warning("could not send webhook", reason=error.message)
            return True
        if number is None:
            log.info("duplicate message of a webhook")
            return False
        with structlog.contextvars.bound_contextvars(attempt=number):
            return await _attempt(resources, client, jitter, record, delivery, number)


async def _begin_next(resources: Resources, delivery: WebhookDelivery) -> int | None:
    """Record the next attempt; return its number, or None if the message is a duplicate.

    The message of an attempt that is due later is a duplicate too: that one is hidden until then.
    """
    latest = await webhook_attempts.latest(resources, delivery.job_id)
    if delivery.is_resent if latest is None else not latest.is_due(resources.clock()):
        return None
    number = latest.number + 1 if latest else 1
    return number if await webhook_attempts.begin(resources, delivery, number) else None


async def _attempt(
    resources: Resources,
    client: WebhookClient,
    jitter: Callable[[], float],
    record: Record,
    delivery: WebhookDelivery,
    number: int,
) -> bool:
    """Make an attempt; return whether the message stays in the queue."""
    try:
        await _send(resources, client, delivery)
    except Exception as error:
        if not isinstance(error, WebhookRefused):  # whatever it is, the schedule has to go on
            log.exception("could not send webhook")
            error = WebhookRefused(error.message if isinstance(error, PipelineError) else "an internal error")
        log.warning("webhook not accepted", reason=error.reason)
        return await _retry(resources, delivery, record, number, error, jitter)
    try:
        await webhook_attempts.finish(resources, delivery.job_id)
    except Unavailable as error:
        log.warning("webhook may be sent again", reason=error.message)
    return False


async def _send(resources: Resources, client: WebhookClient, delivery: WebhookDelivery) -> None:
    outcome = await jobs.read_outcome(resources, delivery.job_id)
    if outcome is None:
        log.warning("webhook of a job that has expired")
        return
    receiver = await webhook_receivers.read(resources, outcome.source.owner)
    if not receiver.secrets:
        raise WebhookRefused("there is no secret to sign with", is_final=True)
    body = await body_of(resources, outcome)
    headers = signed_headers(receiver.secrets, delivery.job_id, resources.clock(), body)
    await client.send(delivery.url, headers | {"Content-Type": JSON}, body)
    log.info("webhook sent", correlation_id=outcome.correlation_id)


async def body_of(resources: Resources, outcome: Outcome) -> bytes:
    """Return the message about an outcome, equal at every attempt."""
    return json.dumps(await server_messages.completion(resources, outcome), ensure_ascii=False).encode()


async def _retry(
    resources: Resources,
    delivery: WebhookDelivery,
    record: Record,
    number: int,
    error: WebhookRefused,
    jitter: Callable[[], float],
) -> bool:
    """Hide the message until its next attempt, or give it up; return whether it stays in the queue."""
    seconds = None if error.is_final else retry_delay(number, jitter())
    try:
        if seconds is None:
            log.error("webhook given up")
            mark = WebhookFailure(failed_at=resources.clock(), attempts=number, reason=error.reason)
            await resources.bucket.put(layout.webhook_failure(delivery.job_id), mark.to_json(), JSON)
            await webhook_attempts.finish(resources, delivery.job_id)
        await resources.webhooks.hide([record["receiptHandle"]], seconds or 0)
    except Unavailable as unavailable:
        log.warning("webhook is retried at the wrong time", reason=unavailable.message)
    # The queue makes a dead letter of a message that it has delivered as often as there are attempts.
    return seconds is not None or int(record["attributes"]["ApproximateReceiveCount"]) >= ATTEMPTS
