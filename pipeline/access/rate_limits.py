"""Rate limits of owners: requests per minute, and seconds of recordings per hour, over any number of processes.

Both are counted in fixed windows (see `usage_windows`).  As with every fixed window, an owner can use two quotas
within a short time: one at the end of a window and the next at the start of the following one.  A process reserves
requests of the minute's quota in blocks, so that most need no call to the storage: first one, then two, and so on
up to a twentieth of the quota, each when the previous block is used up.  So it never holds more than it has used.
The rest of its last block is lost when the minute ends.

Without an owner nothing is counted, and no request is sent to the storage.
"""

import math
from datetime import timedelta

import structlog

from pipeline.clients.resources import Resources
from pipeline.clients.usage_windows import Policy, UsageWindow
from pipeline.errors import QuotaStatus, TooMany, Unavailable
from pipeline.ids import Owner

log = structlog.get_logger(__name__)

SHARE_RETENTION = timedelta(days=1)  # the sweeper deletes them within minutes
CLOCK_SKEW = timedelta(minutes=2)  # a window is kept this long after its end: another process's clock may be behind
BLOCKS = 20  # a process takes at most this part of a minute's requests at a time

REQUESTS = Policy("requests", timedelta(minutes=1))
REFERENCE_SECONDS = Policy("reference-seconds", timedelta(hours=1))


async def take_request(resources: Resources, owner: Owner, count: int = 1) -> QuotaStatus | None:
    """Count a request, or work that costs as much as `count` requests, at most half of the quota.

    Returns the quota's status, or None if it has no limit.

    Raises
    ------
    TooMany
        The quota of this minute is used up, or other processes hold the rest of it.
    Unavailable
        The storage does not respond.
    """
    limit = resources.settings.requests_per_minute
    if owner is None or limit == 0:
        return None
    window = resources.usage.current(owner, REQUESTS)
    async with window.exclusive():
        count = min(count, max(1, limit // 2))
        if (missing := count - window.held) > 0:
            window.held += await window.take(max(window.block, missing), least=missing, limit=limit)
            window.block = min(2 * window.block, max(1, limit // BLOCKS))
        if window.held < count:
            status = _status(resources, REQUESTS, limit, limit - window.used, window)
            raise TooMany(
                f"Limit of {limit} requests a minute reached. Retry in {status.reset_seconds} seconds.",
                retry_after=status.reset_seconds,
                quota_status=status,
            )
        window.held -= count
    return _status(resources, REQUESTS, limit, limit - window.used + window.held, window)


async def take_reference_seconds(resources: Resources, owner: Owner, seconds: float) -> QuotaStatus | None:
    """Count the length of a recording. Return the quota's status, or None if it has no limit.

    Raises
    ------
    TooMany
        It is longer than the rest of this hour's quota.
    Unavailable
        The storage does not respond.
    """
    limit = resources.settings.reference_seconds_per_hour
    if owner is None or limit == 0:
        return None
    # In whole milliseconds, which add up exactly.
    length, quota = math.ceil(seconds * 1000), limit * 1000
    window = resources.usage.current(owner, REFERENCE_SECONDS)
    async with window.exclusive():
        taken = await window.take(length, least=length, limit=quota)
        if taken < length:  # another process may have returned some
            await window.refresh()
            taken = await window.take(length, least=length, limit=quota)
    status = _status(resources, REFERENCE_SECONDS, limit, (quota - window.used) // 1000, window)
    if taken < length:
        raise TooMany(
            f"Limit of {limit} seconds of recordings an hour: {status.remaining} are left, "
            f"and this one has {seconds:.1f}. Retry in {status.reset_seconds} seconds.",
            field="audio",
            retry_after=status.reset_seconds,
            quota_status=status,
        )
    return status


async def return_reference_seconds(resources: Resources, owner: Owner, seconds: float) -> None:
    """Undo the count of a recording, as far as possible: it was counted twice, or never stored."""
    if owner is None or resources.settings.reference_seconds_per_hour == 0:
        return
    window = resources.usage.current(owner, REFERENCE_SECONDS)
    try:
        async with window.exclusive():
            await window.give_back(math.ceil(seconds * 1000))
    except Unavailable as error:
        log.warning("could not return quota", owner=owner, reason=error.message)


def _status(resources: Resources, policy: Policy, quota: int, remaining: int, window: UsageWindow) -> QuotaStatus:
    left = math.ceil((window.ends_at - resources.clock()).total_seconds())
    return QuotaStatus(
        policy=policy.name,
        quota=quota,
        remaining=max(0, remaining),
        window_seconds=int(policy.window.total_seconds()),
        reset_seconds=max(1, left),
    )
