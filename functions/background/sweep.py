"""The sweep, every minute: delete expired objects, end overdue jobs, complete interrupted changes.

Ids sort by age, so each listing begins at the oldest key and stops at the first that is too new: the cost of a
sweep depends on what has expired, not on what is stored.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from pipeline.access import rate_limits
from pipeline.access.audit.chain import append_all_pending
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, ObjectInfo
from pipeline.contract import layout, retention
from pipeline.contract.records import LastSweep
from pipeline.domain import jobs, voice_changes, webhook_attempts
from pipeline.domain.revocation import derived, revoke
from pipeline.errors import Unavailable
from pipeline.ids import is_id, lowest_id, timestamp_of
from pipeline.provenance import fingerprints

log = structlog.get_logger(__name__)

# Jobs past their deadline are searched this far back before the first sweep.
OVERDUE_SPAN = timedelta(minutes=15)
_OVERLAP = timedelta(minutes=1)  # of the periods of two sweeps: their clocks may differ
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
    began = resources.clock()
    await _touch_queue(resources)
    swept, failed = dict[str, int](), list[str]()
    for name, task in TASKS.items():
        try:
            swept[name] = await task(resources)
        except Exception:
            log.exception("sweep task failed", task=name)
            failed.append(name)
    counts = {name: count for name, count in swept.items() if count}
    (log.info if counts or failed else log.debug)("swept", **counts, failed_tasks=len(failed))
    if failed:
        raise Unavailable(f"Not swept: {', '.join(failed)}.")
    record = LastSweep(at=began, swept=swept)
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
    """Yield expired connections; they expire by their last use, which is never earlier than the time in the key."""
    now, settings = resources.clock(), resources.settings
    async for item in _possibly_expired_connections(resources):
        if retention.connection_expires_at(item.last_modified, settings) <= now:
            yield item.key


async def _possibly_expired_connections(resources: Resources) -> AsyncIterator[ObjectInfo]:
    """Yield the connections that were opened long ago, and those of version 0.1, without a time in their keys."""
    now, prefix = resources.clock(), layout.CONNECTIONS
    async for item in resources.bucket.list(prefix):
        time = layout.time_in(item.key, prefix)
        if time is not None and time + resources.settings.connection_retention > now:
            break
        yield item
    async for item in resources.bucket.list(prefix, start_after=prefix + lowest_id(now + timedelta(days=1))):
        yield item


async def _past_windows(resources: Resources) -> AsyncIterator[str]:
    """Yield the usage records of past windows. The lifecycle rule deletes those of version 0.1."""
    latest = resources.clock() - rate_limits.CLOCK_SKEW
    async for item in resources.bucket.list(layout.QUOTAS):
        ended_at = layout.time_in(item.key, layout.QUOTAS)
        if ended_at is not None:
            if ended_at > latest:
                break
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
    if batch:
        await resources.bucket.delete(batch)
    return count + len(batch)


async def _end_overdue(resources: Resources) -> int:
    """End the jobs that are past their deadline since the last sweep, also if that was long ago."""
    deadline = resources.settings.job_deadline
    latest, ended = resources.clock() - deadline, 0
    last = LastSweep.parse_stored(await resources.bucket.get(layout.LAST_SWEEP))
    since = min(last.at - deadline, latest) - _OVERLAP if last else latest - OVERDUE_SPAN
    async for job_id in jobs.unfinished(resources, since=since, until=latest):
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
    oldest_kept = layout.idempotency(resources.clock() - retention.IDEMPOTENCY_RETENTION, "")
    async for key in _before_day(resources, layout.IDEMPOTENCY, layout.day_in(oldest_kept, layout.IDEMPOTENCY)):
        yield key


async def _derived(resources: Resources) -> AsyncIterator[str]:
    """Yield the markers of jobs that have expired."""
    async for key in _before_day(resources, layout.DERIVED, derived.oldest_day_kept(resources)):
        yield key


async def _listed_consents(resources: Resources) -> AsyncIterator[str]:
    """Yield the keys that list the consents of past days, all of which have expired."""
    oldest_kept = layout.listed_consents(resources.clock() - resources.settings.upload_retention, None)
    day = layout.day_in(oldest_kept, layout.LISTED_CONSENTS)
    async for key in _before_day(resources, layout.LISTED_CONSENTS, day):
        yield key


async def _before_day(resources: Resources, prefix: str, day: str) -> AsyncIterator[str]:
    async for item in resources.bucket.list(prefix):
        if layout.day_in(item.key, prefix) >= day:
            break
        yield item.key


def _deleting(keys: Callable[[Resources], AsyncIterator[str]]) -> Task:
    async def delete(resources: Resources) -> int:
        return await _delete(resources, keys(resources))

    return delete


TASKS: Mapping[str, Task] = {
    "uploads": _deleting(_uploads),
    "previews": _deleting(_previews),
    "jobs": _deleting(_jobs),
    "tickets": _deleting(_tickets),
    "connections": _deleting(_connections),
    "overdue_jobs": _end_overdue,
    "voice_changes": voice_changes.finish_changes,
    "revocations": revoke.finish_revocations,
    "derived": _deleting(_derived),
    "shares": _deleting(_past_windows),
    "idempotency": _deleting(_idempotency),
    "fingerprints": _deleting(fingerprints.expired),
    "listed_consents": _deleting(_listed_consents),
    "in_flight": _deleting(_ended_in_flight),
    "webhooks": webhook_attempts.resend,
    "audit": append_all_pending,
}
