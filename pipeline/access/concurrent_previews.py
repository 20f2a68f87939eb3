"""The limit of an owner's concurrent previews: each has a marker from before it is accepted until it has ended."""

import asyncio
from collections.abc import Iterable

import structlog

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.errors import QuotaStatus, TooMany, Unavailable
from pipeline.ids import lowest_id

log = structlog.get_logger(__name__)

PREVIEW_RETRY_SECONDS = 5

_LISTINGS = 6
_OUTCOMES_CHECKED = 16


async def reserve(resources: Resources, owner: str, job_id: str) -> None:
    """Reserve one of the owner's concurrent previews, before it is accepted.

    Concurrent reservations never exceed the limit. One fewer than the limit may succeed.

    Raises
    ------
    TooMany
        The limit of concurrent previews is reached.
    Unavailable
        The storage does not respond.
    """
    limit = resources.settings.previews_in_flight
    if limit == 0:
        return
    try:
        await resources.bucket.put(layout.in_flight(owner, job_id), b"{}", JSON)
        if not await _is_within_limit(resources, owner, job_id, limit):
            raise _too_many_previews(limit)
    except (TooMany, Unavailable):
        await release(resources, owner, job_id)
        raise


async def release(resources: Resources, owner: str, job_id: str) -> None:
    """Release the reservation of a preview that has ended. If its deletion fails, the sweeper deletes it later."""
    try:
        await resources.bucket.delete([layout.in_flight(owner, job_id)])
    except Unavailable as error:
        log.warning("marker left to the sweeper", job_id=job_id, reason=error.message)


async def _is_within_limit(resources: Resources, owner: str, job_id: str, limit: int) -> bool:
    """Return whether a preview is within the limit, after its marker was written.

    It is if there are no more markers than the limit, its own included: later previews count this one.  If there
    are too many, the newest are refused, and the others list the markers again.
    """
    ended = set[str]()
    for listing in range(_LISTINGS):
        unfinished = (await _unfinished(resources, owner) | {job_id}) - ended
        if listing == 0 and len(unfinished) > limit:
            ended = await _ended(resources, sorted(unfinished - {job_id})[:_OUTCOMES_CHECKED])
            unfinished -= ended
        if len(unfinished) <= limit:
            return True
        if sum(other < job_id for other in unfinished) >= limit:
            return False
    return False


async def _unfinished(resources: Resources, owner: str) -> set[str]:
    """Return the owner's previews that have a marker and are not past their deadline."""
    folder = layout.in_flight_of(owner)
    oldest = folder + lowest_id(resources.clock() - resources.settings.job_deadline)
    return {layout.job_id_in_flight(item.key) async for item in resources.bucket.list(folder, start_after=oldest)}


async def _ended(resources: Resources, job_ids: Iterable[str]) -> set[str]:
    """Return the jobs that have an outcome, and so markers that are about to be deleted."""
    found = await asyncio.gather(*(resources.bucket.head(layout.outcome(job_id)) for job_id in job_ids))
    return {layout.id_in(outcome.key, layout.JOBS) for outcome in found if outcome}


def _too_many_previews(limit: int) -> TooMany:
    return TooMany(
        f"Limit of {limit} concurrent previews reached. Try again when one has ended.",
        retry_after=PREVIEW_RETRY_SECONDS,
        quota_status=QuotaStatus("previews", limit, 0, unit="concurrent-requests"),
    )
