"""The attempts to deliver webhooks: one object per attempt, so that no pending webhook depends on a queue alone.

`webhook-attempts/<job_id>/<number>.json` is written once, before the attempt.  Number 0 means that the webhook is
queued.  The number and the time of the latest object determine when the next attempt is due.  All are deleted when
the webhook is delivered or given up.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from urllib.parse import urlsplit

import structlog

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, ObjectInfo
from pipeline.contract import layout, retention
from pipeline.contract.messages.webhooks import ATTEMPTS, JITTER, RETRY_SECONDS, WebhookDelivery, parse_delivery
from pipeline.ids import Owner

log = structlog.get_logger(__name__)

# Of clocks, and of the time between an attempt and the hiding of its message.
TOLERANCE = timedelta(seconds=2)
# A message that is overdue by this much may be lost, and is sent again.  The delay grows with every message, so
# that a queue that is only slow is not filled with copies.
RESEND_AFTER = timedelta(seconds=30)
_SWEEP_PERIOD = timedelta(seconds=75)  # a minute, and how late a sweep may be
_READ_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Attempt:
    """The latest attempt to deliver the webhook of a job."""

    job_id: str
    number: int
    at: datetime
    keys: tuple[str, ...]

    @property
    def next_at(self) -> datetime | None:
        """The latest time of the next attempt, or None if this was the last one."""
        if self.number >= ATTEMPTS:
            return None
        return self.at + timedelta(seconds=RETRY_SECONDS[self.number - 1] if self.number else 0)

    def is_due(self, now: datetime) -> bool:
        """Return whether the next attempt may be made."""
        return self.next_at is not None and now >= self.next_at - (self.next_at - self.at) * JITTER - TOLERANCE


async def enqueue(resources: Resources, job_id: str, owner: Owner, url: str) -> None:
    """Queue the webhook of a job, unless it is queued already."""
    # Receivers, and owners, are served in turns.
    group = hashlib.sha256(f"{owner} {urlsplit(url).netloc}".encode()).hexdigest()[:32]
    delivery = WebhookDelivery(job_id=job_id, url=url, group=group)
    if await begin(resources, delivery, 0):
        await _send(resources, delivery)


async def begin(resources: Resources, delivery: WebhookDelivery, number: int) -> bool:
    """Record that an attempt begins. Return False if it was begun already."""
    key = layout.webhook_attempt(delivery.job_id, number)
    return await resources.bucket.put_once(key, delivery.to_json(), JSON) is not None


async def latest(resources: Resources, job_id: str) -> Attempt | None:
    """Return the latest attempt of a job's webhook, or None if the webhook is not pending."""
    return _latest([item async for item in resources.bucket.list(layout.webhook_attempts(job_id))])


async def finish(resources: Resources, job_id: str) -> None:
    """Delete the attempts of a webhook that was delivered or given up."""
    await resources.bucket.delete(layout.webhook_attempt(job_id, number) for number in range(ATTEMPTS + 1))


async def resend(resources: Resources, *, all_overdue: bool = False) -> int:
    """Send the messages of overdue webhooks again, and delete the attempts of expired jobs. Return the number sent.

    Parameters
    ----------
    resources
        The resources.
    all_overdue
        Send all of them, because the queue has lost its messages.
    """
    now, overdue = resources.clock(), list[Attempt]()
    async for attempt in _pending(resources):
        if retention.job_expires_at(attempt.job_id, resources.settings) <= now:
            await resources.bucket.delete(attempt.keys)
        elif attempt.next_at and (attempt.next_at <= now if all_overdue else _may_be_lost(now - attempt.next_at)):
            overdue.append(attempt)
    for start in range(0, len(overdue), _READ_AT_ONCE):
        await asyncio.gather(*(_resend(resources, attempt) for attempt in overdue[start : start + _READ_AT_ONCE]))
    return len(overdue)


async def _resend(resources: Resources, attempt: Attempt) -> None:
    body = await resources.bucket.get(attempt.keys[-1])
    delivery = parse_delivery(body.decode()) if body else None
    if delivery is not None:
        log.info("webhook sent to the queue again", job_id=attempt.job_id, attempt=attempt.number + 1)
        await _send(resources, delivery.model_copy(update={"is_resent": True}))


async def _send(resources: Resources, delivery: WebhookDelivery) -> None:
    await resources.webhooks.send(delivery.to_json().decode(), group=delivery.group)


def _may_be_lost(overdue: timedelta) -> bool:
    """Return whether one of the times to send a message again was within the last period of the sweep."""
    after = RESEND_AFTER
    while after <= overdue:
        if overdue < after + _SWEEP_PERIOD:
            return True
        after *= 4
    return False


async def _pending(resources: Resources) -> AsyncIterator[Attempt]:
    items = [item async for item in resources.bucket.list(layout.WEBHOOK_ATTEMPTS)]
    for _, files in groupby(items, key=lambda item: layout.id_in(item.key, layout.WEBHOOK_ATTEMPTS)):
        if attempt := _latest(list(files)):
            yield attempt


def _latest(items: Sequence[ObjectInfo]) -> Attempt | None:
    """Return the attempt of the last key. The keys of a job sort by the number."""
    found = layout.webhook_attempt_in(items[-1].key) if items else None
    return Attempt(*found, items[-1].last_modified, tuple(item.key for item in items)) if found else None
