"""Rate limits of owners, counted on object storage so that they hold over any number of processes.

Requests and seconds of recordings are counted in fixed windows: one object a window, changed by compare-and-swap.
As with every fixed window, an owner can use two quotas within a short time: one at the end of a window and the next
at the start of the following one.  A process reserves requests of the minute's quota in blocks, so that most need
no call to the storage: first one, then two, and so on up to a twentieth of the quota, each when the previous block
is used up.  So it never holds more than it has used; what it holds and does not use is lost when the minute ends.

Without an owner nothing is counted, and no request is sent to the storage.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import ValidationError

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, Bucket
from pipeline.contract import layout
from pipeline.contract.records import QuotaUsage
from pipeline.errors import QuotaStatus, TooMany, Unavailable
from pipeline.ids import Clock, Owner

log = structlog.get_logger(__name__)

SHARE_RETENTION = timedelta(days=1)  # the sweeper deletes them within minutes
CLOCK_SKEW = timedelta(minutes=2)  # a window is kept this long after its end: another process's clock may be behind
BLOCKS = 20  # a process takes at most this part of a minute's requests at a time

# Of concurrent writes one succeeds, so this many can succeed before any process has to give up.
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Policy:
    """A quota that is renewed in each fixed window."""

    name: str
    window: timedelta

    def start(self, now: datetime) -> datetime:
        """Return when the window that contains the moment starts: at the same time for all owners."""
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return now - (now - epoch) % self.window


REQUESTS = Policy("requests", timedelta(minutes=1))
REFERENCE_SECONDS = Policy("reference-seconds", timedelta(hours=1))
_LONGEST = max(REQUESTS.window, REFERENCE_SECONDS.window)
_WINDOWS = {policy.name: policy.window for policy in (REQUESTS, REFERENCE_SECONDS)}


class _Window:
    """The usage of one quota by one owner in one window."""

    def __init__(self, bucket: Bucket, key: str, ends_at: datetime) -> None:
        self.ends_at = ends_at
        self.used = 0  # by all processes, as last read
        self.held = 0  # the part of `used` that this process has reserved and not yet used
        self.block = 1
        self._bucket = bucket
        self._key = key
        self._seen = False
        self._etag: str | None = None
        self._lock = asyncio.Lock()
        self._failures = 0

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the lock; if the holder's call to the storage fails, the tasks that wait for it fail too."""
        failures = self._failures
        async with self._lock:
            if self._failures != failures:
                raise _busy()
            try:
                yield
            except Unavailable:
                self._failures += 1
                raise

    async def take(self, wanted: int, *, least: int, limit: int) -> int:
        """Count `wanted` as used, or what is left of the quota; return how much: 0 if less than `least` is left.

        Raises
        ------
        Unavailable
            The storage does not respond, or concurrent writes kept conflicting.
        """
        if not self._seen:
            await self._read()
        for _ in range(_TRIES):
            granted = min(wanted, limit - self.used)
            if granted < least:
                return 0
            if await self._write(self.used + granted):
                return granted
            await self._read()
        raise _busy()

    async def give_back(self, amount: int) -> None:
        """Decrease the count by this amount.

        Raises
        ------
        Unavailable
            As for `take`.
        """
        for _ in range(_TRIES):
            if await self._write(max(0, self.used - amount)):
                return
            await self._read()
        raise _busy()

    async def _read(self) -> None:
        stored = await self._bucket.read(self._key)
        self._seen = True
        self._etag = stored.etag if stored else None
        self.used = _read_used(self._key, stored.body) if stored else 0

    async def _write(self, used: int) -> bool:
        body = QuotaUsage(used=used).to_json()
        if self._etag is None:
            etag = await self._bucket.put_once(self._key, body, JSON)
        else:
            etag = await self._bucket.replace(self._key, body, JSON, etag=self._etag)
        if etag is None:
            return False
        self._etag, self.used = etag, used
        return True


def _read_used(key: str, body: bytes) -> int:
    """Return a stored count; 0 if it is damaged, so that no owner is locked out."""
    try:
        return QuotaUsage.model_validate_json(body).used
    except ValidationError:
        log.error("quota usage can't be parsed", key=key)  # noqa: TRY400 - the error would quote the input
        return 0


class Quotas:
    """The quotas of all owners, as counted by one object of this class."""

    def __init__(self, resources: Resources, clock: Clock) -> None:
        self._bucket = resources.bucket
        self._settings = resources.settings
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    async def take_request(self, owner: Owner) -> QuotaStatus | None:
        """Count one request; return the quota's status, or None if it has no limit.

        Raises
        ------
        TooMany
            The quota of this minute is used up, or other processes hold the rest of it.
        Unavailable
            The storage does not respond.
        """
        limit = self._settings.requests_per_minute
        if owner is None or limit == 0:
            return None
        window = self._window(owner, REQUESTS)
        async with window.exclusive():
            if window.held == 0:
                window.held = await window.take(window.block, least=1, limit=limit)
                window.block = min(2 * window.block, max(1, limit // BLOCKS))
            if window.held == 0:
                raise self._no_more_requests(limit, window)
            window.held -= 1
        return self._status(REQUESTS, limit, limit - window.used + window.held, window)

    async def take_reference_seconds(self, owner: Owner, seconds: float) -> QuotaStatus | None:
        """Count the length of a recording; return the quota's status, or None if it has no limit.

        Raises
        ------
        TooMany
            It is longer than what is left of this hour's quota.
        Unavailable
            The storage does not respond.
        """
        limit = self._settings.reference_seconds_per_hour
        if owner is None or limit == 0:
            return None
        # In whole milliseconds, which add up exactly.
        length, quota = math.ceil(seconds * 1000), limit * 1000
        window = self._window(owner, REFERENCE_SECONDS)
        async with window.exclusive():
            taken = await window.take(length, least=length, limit=quota)
        quota_status = self._status(REFERENCE_SECONDS, limit, (quota - window.used) // 1000, window)
        if taken < length:
            raise _too_long(seconds, quota_status)
        return quota_status

    async def return_reference_seconds(self, owner: Owner, seconds: float) -> None:
        """Undo the count of a recording, as far as possible: it was counted twice, or never stored."""
        if owner is None or self._settings.reference_seconds_per_hour == 0:
            return
        window = self._window(owner, REFERENCE_SECONDS)
        try:
            async with window.exclusive():
                await window.give_back(math.ceil(seconds * 1000))
        except Unavailable as error:
            log.warning("could not return quota", owner=owner, reason=error.message)

    def _window(self, owner: str, policy: Policy) -> _Window:
        now = self._clock()
        start = policy.start(now)
        key = layout.quota(owner, policy.name, start)
        if key not in self._windows:
            self._windows = {k: window for k, window in self._windows.items() if window.ends_at > now}
            self._windows[key] = _Window(self._bucket, key, start + policy.window)
        return self._windows[key]

    def _status(self, policy: Policy, quota: int, remaining: int, window: _Window) -> QuotaStatus:
        left = math.ceil((window.ends_at - self._clock()).total_seconds())
        return QuotaStatus(
            policy=policy.name,
            quota=quota,
            remaining=max(0, remaining),
            window_seconds=int(policy.window.total_seconds()),
            reset_seconds=max(1, left),
        )

    def _no_more_requests(self, limit: int, window: _Window) -> TooMany:
        quota_status = self._status(REQUESTS, limit, limit - window.used, window)
        return TooMany(
            f"Limit of {limit} requests a minute reached; retry in {quota_status.reset_seconds} seconds.",
            retry_after=quota_status.reset_seconds,
            quota_status=quota_status,
        )


def _too_long(seconds: float, quota_status: QuotaStatus) -> TooMany:
    return TooMany(
        f"Limit of {quota_status.quota} seconds of recordings an hour: {quota_status.remaining} are left, "
        f"and this one has {seconds:.1f}. Retry in {quota_status.reset_seconds} seconds.",
        field="audio",
        retry_after=quota_status.reset_seconds,
        quota_status=quota_status,
    )


def _busy() -> Unavailable:
    return Unavailable("Concurrent writes to the usage record kept conflicting.", retry_after=1)


async def past_windows(resources: Resources) -> AsyncIterator[str]:
    """Yield the keys of usage records whose window is over; needs one listing and no read."""
    now = resources.clock()
    async for item in resources.bucket.list(layout.QUOTAS):
        found = layout.window_of_quota(item.key)
        if found and found[1] + _WINDOWS.get(found[0], _LONGEST) + CLOCK_SKEW <= now:
            yield item.key
