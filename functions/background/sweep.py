"""The sweep, every minute: delete expired objects, end overdue jobs, complete interrupted changes.

Ids sort by age, so each listing begins at the oldest key and stops at the first that is too new: the cost of a
sweep depends on what has expired, not on what is stored.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from pipeline.access import rate_limits
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, ObjectInfo
from pipeline.contract import layout, retention
from pipeline.contract.records import LastSweep
from pipeline.domain import jobs, voice_changes, webhook_attempts
from pipeline.errors import Unavailable
from pipeline.ids import is_id, timestamp_of

log = structlog.get_logger(__name__)

# Jobs past their deadline are searched this far back, so that a few missed sweeps do no harm.
OVERDUE_SPAN = timedelta(minutes=15)
# A function runs for at most half a minute; a job with an older marker was accepted, or never will be.
MARKER_TIMEOUT = timedelta(minutes=5)
_DELETED_AT_ONCE = 1000

ExpiresAt = Callable[[str], datetime]
Task = Callable[[Resources], Awaitable[int]]


async def handle(resources: Resources, _event: dict[str, Any]) -> dict[str, int]:
    """Sweep once; return how many objects were deleted, by kind, and how many jobs and changes were ended.

    Raises
    ------
    Unavailable
        Some tasks failed; the others were done.
    """
    await _touch_queue(resources)
    swept, failed = dict[str, int](), list[str]()
    for name, task in _TASKS.items():
        try:
            swept[name] = await task(resources)
        except Exception:
            log.exception("sweep task failed", task=name)
            failed.append(name)
    log.info("swept", **swept, failed_tasks=len(failed))
    if failed:
        raise Unavailable(f"Not swept: {', '.join(failed)}.")
    record = LastSweep(at=resources.clock(), swept=swept)
    await resources.bucket.put(layout.LAST_SWEEP, record.to_json(), JSON)
    return swept


async def _touch_queue(resources: Resources) -> None:
    """Keep the queue of jobs active, as CloudWatch defines it.

    The metrics of a queue that was inactive for six hours are delayed by up to 15 minutes, and so would be the
    start of a worker.
    """
    try:
        await resources.synthesis.ping()
    except Unavailable as error:
        log.warning("queue not reachable", reason=error.message)


async def _by_id(resources: Resources, prefix: str, expires_at: ExpiresAt) -> AsyncIterator[str]:
    now = resources.clock()
    async for item in resources.bucket.list(prefix):
        id_ = layout.id_in(item.key, prefix)
        if not is_id(id_):
            continue
        if expires_at(id_) > now:
            break
        yield item.key


async def _previews(resources: Resources) -> AsyncIterator[str]:
    """Yield expired previews; they expire by their completion, which is never earlier than the time in the id."""
    now = resources.clock()
    async for item in resources.bucket.list(layout.PREVIEWS):
        id_ = layout.id_in(item.key, layout.PREVIEWS)
        if not is_id(id_):
            continue
        if retention.preview_earliest_expiry(id_, resources.settings) > now:
            break
        if retention.preview_expires_at(item.last_modified, resources.settings) <= now:
            yield item.key


async def _connections(resources: Resources) -> AsyncIterator[str]:
    """Yield expired connections; their ids are assigned by API Gateway and not ordered by age."""
    now = resources.clock()

    def expired(item: ObjectInfo) -> bool:
        return retention.connection_expires_at(item.last_modified, resources.settings) <= now

    async for item in resources.bucket.list(layout.CONNECTIONS):
        if expired(item):
            yield item.key


async def _ended_in_flight(resources: Resources) -> AsyncIterator[str]:
    """Yield markers of previews that have ended, were never accepted, or are past their deadline.

    New markers are skipped: their requests may still be in progress.  The others need one listing of the jobs since
    the oldest of them, and no read.
    """
    latest = resources.clock() - MARKER_TIMEOUT
    keys = {layout.job_id_in_flight(item.key): item.key async for item in resources.bucket.list(layout.IN_FLIGHT)}
    aged = {job_id: key for job_id, key in keys.items() if is_id(job_id) and timestamp_of(job_id) <= latest}
    if not aged:
        return
    since = max(timestamp_of(min(aged)), resources.clock() - resources.settings.job_deadline)
    unfinished = {job_id async for job_id in jobs.unfinished(resources, since=since, until=resources.clock())}
    for job_id, key in aged.items():
        if job_id not in unfinished:
            yield key


async def _delete(resources: Resources, keys: AsyncIterator[str]) -> int:
    count, batch = 0, list[str]()
    async for key in keys:
        batch.append(key)
        if len(batch) == _DELETED_AT_ONCE:
            await resources.bucket.delete(batch)
            count, batch = count + len(batch), []
    await resources.bucket.delete(batch)
    return count + len(batch)


async def _end_overdue(resources: Resources) -> int:
    latest = resources.clock() - resources.settings.job_deadline
    ended = 0
    async for job_id in jobs.unfinished(resources, since=latest - OVERDUE_SPAN, until=latest):
        request = await jobs.read_envelope(resources, job_id)
        if request and await jobs.write_outcome(resources, jobs.past_deadline(request, resources)):
            log.warning("job overdue", job_id=job_id, correlation_id=request.correlation_id)
            ended += 1
    return ended


def _uploads(resources: Resources) -> AsyncIterator[str]:
    return _by_id(resources, layout.UPLOADS, lambda id_: retention.upload_expires_at(id_, resources.settings))


def _jobs(resources: Resources) -> AsyncIterator[str]:
    return _by_id(resources, layout.JOBS, lambda id_: retention.job_expires_at(id_, resources.settings))


def _tickets(resources: Resources) -> AsyncIterator[str]:
    return _by_id(resources, layout.TICKETS, retention.ticket_expires_at)


async def _idempotency(resources: Resources) -> AsyncIterator[str]:
    """Yield the records of the days before yesterday: all of them have expired."""
    oldest_kept = layout.day_of_idempotency(
        layout.idempotency(resources.clock() - retention.IDEMPOTENCY_RETENTION, "")
    )
    async for item in resources.bucket.list(layout.IDEMPOTENCY):
        if layout.day_of_idempotency(item.key) >= oldest_kept:
            break
        yield item.key


def _deleting(keys: Callable[[Resources], AsyncIterator[str]]) -> Task:
    async def delete(resources: Resources) -> int:
        return await _delete(resources, keys(resources))

    return delete


_TASKS: Mapping[str, Task] = {
    "uploads": _deleting(_uploads),
    "previews": _deleting(_previews),
    "jobs": _deleting(_jobs),
    "tickets": _deleting(_tickets),
    "connections": _deleting(_connections),
    "overdue_jobs": _end_overdue,
    "voice_changes": voice_changes.finish_changes,
    "shares": _deleting(rate_limits.past_windows),
    "idempotency": _deleting(_idempotency),
    "in_flight": _deleting(_ended_in_flight),
    "webhooks": webhook_attempts.resend,
}
