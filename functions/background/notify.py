"""Handler of outcome events: notifies the clients that created the jobs, and subscribers."""

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self

import structlog

from functions.background import Event, Record, handle_batch
from functions.websocket import server_messages
from pipeline.access.audit.entries import record_use
from pipeline.access.key_lookup import KeyLookup
from pipeline.access.webhook_receivers import DefaultReceivers
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.messages import events
from pipeline.contract.messages.events import Notification
from pipeline.contract.records import Outcome, Subscriber
from pipeline.domain import jobs, webhook_attempts
from pipeline.errors import ConnectionGone, Unavailable
from pipeline.telemetry import tracing

log = structlog.get_logger(__name__)

Delivery = Literal["delivered", "gone", "unreachable"]


@dataclass(frozen=True, slots=True)
class Lookups:
    """The caches of a process that notifies clients."""

    keys: KeyLookup
    receivers: DefaultReceivers

    @classmethod
    def of(cls, resources: Resources) -> Self:
        """Return empty caches."""
        return cls(KeyLookup(resources), DefaultReceivers(resources))


async def handle(resources: Resources, event: Event, lookups: Lookups) -> Event:
    """Handle an SQS batch of S3 events and notifications to be retried."""
    return await handle_batch(event, partial(_fails, resources, lookups))


async def _fails(resources: Resources, lookups: Lookups, record: Record) -> bool:
    try:
        if retried := events.parse_notification(record["body"]):
            return not await _retry(resources, lookups.keys, retried)
        job_ids = [layout.job_id_of_outcome(key) for key in events.keys_created(record["body"])]
        done = await asyncio.gather(*(notify(resources, lookups, job_id) for job_id in job_ids if job_id))
    except Exception:  # a damaged one must not block the others
        log.exception("could not notify", message_id=record["messageId"])
        return True
    return not all(done)


async def notify(resources: Resources, lookups: Lookups, job_id: str) -> bool:
    """Notify every subscriber of a job that has ended; return False if the whole event has to be retried."""
    try:
        outcome = await jobs.read_outcome(resources, job_id)
        if outcome is None:
            return True
        with (
            structlog.contextvars.bound_contextvars(correlation_id=outcome.correlation_id, job_id=job_id),
            tracing.span("notify", parent=outcome.traceparent, kind="consumer", job_id=job_id),
        ):
            notified = await _notify_all(resources, lookups.keys, outcome)
            await _send_webhook(resources, lookups.receivers, outcome)
            await record_use(resources, outcome)  # here, so that no client waits for it
            return notified
    except Unavailable as error:
        log.warning("could not notify of outcome", job_id=job_id, reason=error.message)
        return False


async def _send_webhook(resources: Resources, receivers: DefaultReceivers, outcome: Outcome) -> None:
    """Queue the job's webhook, if it or its owner has named a receiver."""
    if outcome.kind != "preview":
        return
    url = outcome.webhook_url or await receivers.url_of(outcome.source.owner)
    if url is None:
        return
    await webhook_attempts.enqueue(resources, outcome.job_id, outcome.source.owner, url)


async def _retry(resources: Resources, key_lookup: KeyLookup, retried: Notification) -> bool:
    outcome = await jobs.read_outcome(resources, retried.job_id)
    return outcome is None or await _deliver(resources, key_lookup, outcome, retried.subscriber) != "unreachable"


async def _notify_all(resources: Resources, key_lookup: KeyLookup, outcome: Outcome) -> bool:
    deliver = partial(_deliver, resources, key_lookup, outcome)
    maker = outcome.subscriber
    if maker and maker.interface == "http" and await deliver(maker) == "delivered" and not maker.stream:
        # The id was unknown to clients until now, so there are no subscribers; later ones find the outcome.
        return True
    subscribers = await _subscribers(resources, outcome)
    results = await asyncio.gather(*(deliver(subscriber) for subscriber in subscribers))
    unreachable = [to for to, result in zip(subscribers, results, strict=True) if result == "unreachable"]
    if len(unreachable) == len(subscribers):
        return not unreachable
    # Each is retried separately, so that the others are not notified twice.
    for subscriber in unreachable:
        await resources.events.send(Notification(job_id=outcome.job_id, subscriber=subscriber).to_json().decode())
    return True


async def _subscribers(resources: Resources, outcome: Outcome) -> list[Subscriber]:
    """Return a job's creator, if it can be notified, and the later subscribers."""
    keys = [item.key async for item in resources.bucket.list(layout.subscribers(outcome.job_id))]
    bodies = await asyncio.gather(*(resources.bucket.get(key) for key in keys))
    others = [Subscriber.model_validate_json(body) for body in bodies if body]
    maker = outcome.subscriber
    if maker is None or maker.interface == "http":
        return others
    return [maker, *(other for other in others if other.reply_to != maker.reply_to)]


async def _deliver(resources: Resources, key_lookup: KeyLookup, outcome: Outcome, to: Subscriber) -> Delivery:
    connection_id = to.reply_to.connection_id
    if not await _may_hear(key_lookup, to):
        log.info("key is no longer valid, client not notified", connection_id=connection_id)
        return "gone"
    try:
        await resources.connections.post(to.reply_to, await _body(resources, outcome, to))
    except ConnectionGone:
        await _forget(resources, outcome.job_id, to)
        return "gone"
    except Unavailable as error:
        log.warning("could not notify client", connection_id=connection_id, reason=error.message)
        return "unreachable"
    log.info("client notified", connection_id=connection_id, status=outcome.status)
    return "delivered"


async def _body(resources: Resources, outcome: Outcome, to: Subscriber) -> bytes:
    if to.interface == "http":
        return json.dumps({"job_id": outcome.job_id}).encode()  # the waiting request reads the outcome
    return json.dumps(await server_messages.completion(resources, outcome, to), ensure_ascii=False).encode()


async def _may_hear(key_lookup: KeyLookup, to: Subscriber) -> bool:
    key_id = to.reply_to.key_id
    return key_id is None or await key_lookup.is_still_valid(key_id)


async def _forget(resources: Resources, job_id: str, gone: Subscriber) -> None:
    connection_id = gone.reply_to.connection_id
    log.info("client gone", connection_id=connection_id)
    if gone.interface == "http":
        return
    keys = [layout.connection(gone.reply_to), layout.subscriber(job_id, connection_id)]
    try:
        await resources.bucket.delete(keys)
    except Unavailable as error:
        log.warning("could not forget client", connection_id=connection_id, reason=error.message)
