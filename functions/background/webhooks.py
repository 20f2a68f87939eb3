"""Handler of the webhooks queue: tells receivers how jobs ended, repeatedly for a day if they do not accept it.

A message that has failed is hidden until its next attempt; after the last one it becomes a dead letter, and the job
is marked.  The message is the one that WebSocket clients receive; its id is the job's, the same at every attempt.
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
from pipeline.domain import jobs
from pipeline.errors import Unavailable

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
    attempt = int(record["attributes"]["ApproximateReceiveCount"])
    with structlog.contextvars.bound_contextvars(job_id=delivery.job_id, attempt=attempt):
        try:
            await _send(resources, client, delivery)
        except WebhookRefused as error:
            log.warning("webhook not accepted", reason=error.reason)
            return await _retry(resources, delivery, record, attempt, error, jitter)
        except Unavailable as error:
            log.warning("could not send webhook", reason=error.message)
            return True
        except Exception:  # a damaged one must not block the others
            log.exception("could not send webhook")
            return True
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
    attempt: int,
    error: WebhookRefused,
    jitter: Callable[[], float],
) -> bool:
    """Hide the message until its next attempt, or give it up; return whether it stays in the queue."""
    seconds = None if error.is_final else retry_delay(attempt, jitter())
    try:
        if seconds is None:
            await _mark(resources, delivery, attempt, error)
        await resources.webhooks.hide([record["receiptHandle"]], seconds or 0)
    except Unavailable as unavailable:
        log.warning("webhook is retried at the wrong time", reason=unavailable.message)
    return seconds is not None or attempt >= ATTEMPTS


async def _mark(resources: Resources, delivery: WebhookDelivery, attempt: int, error: WebhookRefused) -> None:
    log.error("webhook given up")
    mark = WebhookFailure(failed_at=resources.clock(), attempts=attempt, reason=error.reason)
    await resources.bucket.put(layout.webhook_failure(delivery.job_id), mark.to_json(), JSON)
