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

_LOOKS = 6
_OUTCOMES_LOOKED_AT = 16


async def reserve(resources: Resources, owner: str, job_id: str) -> None:
    """Count a preview as under way, before it is accepted.

    Of those that enter at the same moment never more than the limit get in; one less may.

    Raises
    ------
    TooMany
        As many of the owner's as may be are under way.
    Unavailable
        The storage does not answer.
    """
    limit = resources.settings.previews_in_flight
    if limit == 0:
        return
    try:
        await resources.bucket.put(layout.in_flight(owner, job_id), b"{}", JSON)
        if not await _has_place(resources, owner, job_id, limit):
            raise _too_many_previews(limit)
    except (TooMany, Unavailable):
        await release(resources, owner, job_id)
        raise


async def release(resources: Resources, owner: str, job_id: str) -> None:
    """Count a preview as ended, as well as can be: what is left behind the sweeper clears away."""
    try:
        await resources.bucket.delete([layout.in_flight(owner, job_id)])
    except Unavailable as error:
        log.warning("marker left to the sweeper", job_id=job_id, reason=error.message)


async def _has_place(resources: Resources, owner: str, job_id: str, limit: int) -> bool:
    """Tell whether a preview is in, once its marker is there.

    It is when there are no more markers than may be, its own included: whoever comes later sees this one.  Of too
    many that come at once the youngest go, and the others look again.
    """
    ended = set[str]()
    for look in range(_LOOKS):
        alive = (await _alive(resources, owner) | {job_id}) - ended
        if look == 0 and len(alive) > limit:
            ended = await _ended(resources, sorted(alive - {job_id})[:_OUTCOMES_LOOKED_AT])
            alive -= ended
        if len(alive) <= limit:
            return True
        if sum(other < job_id for other in alive) >= limit:
            return False
    return False


async def _alive(resources: Resources, owner: str) -> set[str]:
    """Find the owner's previews that have a marker and are not past their deadline."""
    folder = layout.in_flight_of(owner)
    oldest = folder + lowest_id(resources.clock() - resources.settings.job_deadline)
    return {layout.job_id_in_flight(item.key) async for item in resources.bucket.list(folder, start_after=oldest)}


async def _ended(resources: Resources, job_ids: Iterable[str]) -> set[str]:
    """Find those with an outcome, whose markers are about to be deleted."""
    found = await asyncio.gather(*(resources.bucket.head(layout.outcome(job_id)) for job_id in job_ids))
    return {layout.id_in(outcome.key, layout.JOBS) for outcome in found if outcome}


def _too_many_previews(limit: int) -> TooMany:
    return TooMany(
        f"You may have {limit} previews under way at a time, and as many are; try again when one has ended.",
        retry_after=PREVIEW_RETRY_SECONDS,
        quota_status=QuotaStatus("previews", limit, 0, unit="concurrent-requests"),
    )
