"""Makes up for what a queue lost: the queues are derived from what is stored, so they can be filled again."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import place  # noqa: F401  (makes the packages importable)
import structlog

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.events import created_notification
from pipeline.domain import jobs
from pipeline.ids import lowest_id

log = structlog.get_logger()

ANNOUNCED_AGAIN = timedelta(minutes=1)  # an event older than that has reached its client


async def recover(resources: Resources, *, lost_since: datetime | None = None) -> None:
    """Send again the jobs without an outcome, and tell again of the outcomes that may not have been told.

    Doing so for a job or an outcome whose message was not lost does no harm.

    Parameters
    ----------
    resources
        With queues that lost their messages.
    lost_since
        When the queues went away, where that is known; else now.
    """
    now = resources.clock()
    sent = 0
    # The clock of whoever named the job may run a little ahead.
    soon = now + timedelta(minutes=1)
    async for job_id in jobs.unfinished(resources, since=now - resources.settings.job_deadline, until=soon):
        await jobs.enqueue(resources, job_id)
        sent += 1
    told = 0
    async for key in outcomes_since(resources, (lost_since or now) - ANNOUNCED_AGAIN):
        await announce(resources, key)
        told += 1
    if sent or told:
        log.info("the queues are filled again", jobs_sent_again=sent, outcomes_told_again=told)


async def outcomes_since(resources: Resources, moment: datetime) -> AsyncIterator[str]:
    """Go through the keys of the outcomes written since then.

    Costs one listing of the jobs young enough to have ended since.
    """
    # A job ends by its deadline; the sweeper, that writes the failures of those past it, may take minutes more.
    oldest = moment - resources.settings.job_deadline - timedelta(minutes=10)
    async for item in resources.bucket.list(layout.JOBS, start_after=layout.JOBS + lowest_id(oldest)):
        if layout.job_id_of_outcome(item.key) and item.last_modified >= moment:
            yield item.key


async def announce(resources: Resources, key: str) -> None:
    """Put the event of a new outcome in the queue, as the storage would."""
    await resources.events.send(created_notification(resources.settings.bucket, key))
