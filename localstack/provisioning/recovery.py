"""Refills queues that lost their messages: the queues are derived from the stored objects."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

import structlog

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.messages.events import created_notification
from pipeline.contract.records import LastSweep
from pipeline.domain import acceptance, jobs, webhook_attempts
from pipeline.ids import lowest_id

log = structlog.get_logger()

# An event is received again after each crash of its function, up to a limit. Older events have arrived.
RESEND_WINDOW = timedelta(minutes=5)
SENT_AT_ONCE = 16


async def refill_queues(resources: Resources, *, down_since: datetime | None = None) -> None:
    """Send the messages of unfinished jobs and of overdue webhooks, and the events of recent outcomes, again.

    All are idempotent: a duplicate of a message that was not lost does no harm.

    Parameters
    ----------
    resources
        The resources. Their queues lost their messages.
    down_since
        The time since which the queues were down. Default: the time of the last sweep.
    """
    now = resources.clock()
    last_sweep = LastSweep.parse_stored(await resources.bucket.get(layout.LAST_SWEEP))
    down_since = down_since or (last_sweep.at if last_sweep else now)
    # The clock of the process that created the id may be slightly ahead.
    soon = now + timedelta(minutes=1)
    unfinished = jobs.unfinished(resources, since=now - resources.settings.job_deadline, until=soon)
    jobs_sent = await _for_each(unfinished, partial(_send_job, resources))
    outcomes = outcomes_since(resources, down_since - RESEND_WINDOW)
    events_sent = await _for_each(outcomes, partial(send_event, resources))
    webhooks_sent = await webhook_attempts.resend(resources, all_overdue=True)
    if jobs_sent or events_sent or webhooks_sent:
        log.info("sent lost messages again", jobs=jobs_sent, outcome_events=events_sent, webhooks=webhooks_sent)


async def _for_each(items: AsyncIterator[str], send: Callable[[str], Awaitable[None]]) -> int:
    """Send the messages of all items, some at a time. Return their number."""
    all_items = [item async for item in items]
    for start in range(0, len(all_items), SENT_AT_ONCE):
        await asyncio.gather(*map(send, all_items[start : start + SENT_AT_ONCE]))
    return len(all_items)


async def _send_job(resources: Resources, job_id: str) -> None:
    # Without keys, a job has no owner.
    request = await jobs.read_envelope(resources, job_id) if resources.settings.wants_keys else None
    await acceptance.enqueue(resources, job_id, request.source.owner if request else None)


async def outcomes_since(resources: Resources, moment: datetime) -> AsyncIterator[str]:
    """Yield the keys of the outcomes written since this moment, with one listing of the recent jobs."""
    # A job ends by its deadline; the sweeper, which fails those past it, may take minutes more.
    oldest = moment - resources.settings.job_deadline - timedelta(minutes=10)
    async for item in resources.bucket.list(layout.JOBS, start_after=layout.JOBS + lowest_id(oldest)):
        if layout.job_id_of_outcome(item.key) and item.last_modified >= moment:
            yield item.key


async def send_event(resources: Resources, key: str) -> None:
    """Send the object-created event of an outcome to the events queue, as the storage would."""
    await resources.events.send(created_notification(resources.settings.bucket, key))
