"""Outcome events become messages to the clients that asked, and to those who subscribed."""

import asyncio
import json
from functools import partial
from typing import Literal

import structlog

from functions.background import sqs_batches
from functions.background.sqs_batches import Event, Record
from pipeline.access.key_lookup import KeyLookup
from pipeline.clients.resources import Resources
from pipeline.contract import events, layout
from pipeline.contract.records import Failed, ReplyTo, Subscriber, Succeeded
from pipeline.domain import jobs, presigned_urls
from pipeline.errors import ConnectionGone, Unavailable

log = structlog.get_logger(__name__)

Delivery = Literal["told", "gone", "unreachable"]


async def handle(resources: Resources, event: Event, key_lookup: KeyLookup) -> Event:
    """Serve a batch of S3 events that came through SQS."""
    return await sqs_batches.each(event, partial(_fails, resources, key_lookup))


async def _fails(resources: Resources, key_lookup: KeyLookup, record: Record) -> bool:
    job_ids = [layout.job_id_of_outcome(key) for key in events.keys_created(record["body"])]
    try:
        told = await asyncio.gather(*(tell(resources, key_lookup, job_id) for job_id in job_ids if job_id))
    except Exception:  # one that is damaged must not hold up the others
        log.exception("could not tell", message_id=record["messageId"])
        return True
    return not all(told)


async def tell(resources: Resources, key_lookup: KeyLookup, job_id: str) -> bool:
    """Tell everyone who wants to know how a job ended; False when somebody has to be told again."""
    try:
        outcome = await jobs.read_outcome(resources, job_id)
        if outcome is None:
            return True
        with structlog.contextvars.bound_contextvars(correlation_id=outcome.correlation_id, job_id=job_id):
            return await _tell_all(resources, key_lookup, outcome)
    except Unavailable as error:
        log.warning("could not tell of outcome", job_id=job_id, reason=error.message)
        return False


async def _tell_all(resources: Resources, key_lookup: KeyLookup, outcome: Succeeded | Failed) -> bool:
    results = [await _tell(resources, key_lookup, outcome, maker) for maker in _maker(outcome)]
    if outcome.id_withheld and results == ["told"]:
        # Until now nobody knew the id, so nobody can have subscribed; whoever does from now on finds the outcome.
        return True
    others = [to for to in await _subscribers(resources, outcome.job_id) if to.reply_to != outcome.reply_to]
    results += await asyncio.gather(*(_tell(resources, key_lookup, outcome, to) for to in others))
    return "unreachable" not in results


def _maker(outcome: Succeeded | Failed) -> list[Subscriber]:
    if outcome.reply_to is None:
        return []
    return [Subscriber(reply_to=outcome.reply_to, request_id=outcome.request_id, signed=outcome.signed)]


async def _subscribers(resources: Resources, job_id: str) -> list[Subscriber]:
    keys = [item.key async for item in resources.bucket.list(layout.subscribers(job_id))]
    bodies = await asyncio.gather(*(resources.bucket.get(key) for key in keys))
    return [Subscriber.model_validate_json(body) for body in bodies if body]


async def _tell(
    resources: Resources, key_lookup: KeyLookup, outcome: Succeeded | Failed, to: Subscriber
) -> Delivery:
    if not await _may_hear(key_lookup, to.reply_to):
        log.info("key is no longer good, client not told", connection_id=to.reply_to.connection_id)
        return "gone"
    message = events.message_for(outcome.model_copy(update={"request_id": to.request_id}))
    try:
        message = await presigned_urls.with_link(
            resources, outcome, message, to.reply_to.base_url, wanted=to.signed
        )
        await resources.connections.post(to.reply_to, json.dumps(message, ensure_ascii=False).encode())
    except ConnectionGone:
        await _forget(resources, outcome.job_id, to.reply_to.connection_id)
        return "gone"
    except Unavailable as error:
        log.warning("could not tell client", connection_id=to.reply_to.connection_id, reason=error.message)
        return "unreachable"
    log.info("client told", connection_id=to.reply_to.connection_id, status=outcome.status)
    return "told"


async def _may_hear(key_lookup: KeyLookup, to: ReplyTo) -> bool:
    return to.key_id is None or await key_lookup.is_still_valid(to.key_id)


async def _forget(resources: Resources, job_id: str, connection_id: str) -> None:
    log.info("client gone", connection_id=connection_id)
    keys = [layout.connection(connection_id), layout.subscriber(job_id, connection_id)]
    try:
        await resources.bucket.delete(keys)
    except Unavailable as error:
        log.warning("could not forget client", connection_id=connection_id, reason=error.message)
