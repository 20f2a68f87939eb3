"""Refills queues that lost their messages: the queues are derived from the stored objects."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.messages.events import created_notification
from pipeline.domain import jobs, webhook_attempts
from pipeline.ids import lowest_id

log = structlog.get_logger()

RESEND_WINDOW = timedelta(minutes=1)  # older events have reached their clients


async def refill_queues(resources: Resources, *, down_since: datetime | None = None) -> None:
    """Send the messages of unfinished jobs and of overdue webhooks, and the events of recent outcomes, again.

    All are idempotent: a duplicate of a message that was not lost does no harm.

    Parameters
    ----------
    resources
        The resources, whose queues lost their messages.
    down_since
        The time since which the queues were down; None means now.
    """
    now = resources.clock()
    jobs_sent = 0
    # The clock of the process that created the id may be slightly ahead.
    soon = now + timedelta(minutes=1)
    async for job_id in jobs.unfinished(resources, since=now - resources.settings.job_deadline, until=soon):
        request = await jobs.read_envelope(resources, job_id)
        await jobs.enqueue(resources, job_id, request.source.owner if request else None)
        jobs_sent += 1
    events_sent = 0
    async for key in outcomes_since(resources, (down_since or now) - RESEND_WINDOW):
        await send_event(resources, key)
        events_sent += 1
    webhooks_sent = await webhook_attempts.resend(resources, all_overdue=True)
    if jobs_sent or events_sent or webhooks_sent:
        log.info("sent lost messages again", jobs=jobs_sent, outcome_events=events_sent, webhooks=webhooks_sent)


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
