"""Counters of usage in fixed windows, on object storage: one object per window, changed by compare-and-swap.

All processes count in the same objects.  Within a process, all tasks share one `UsageWindow`, which remembers the
last version of the object, so that most changes need one request.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from pipeline.clients.storage import JSON, Bucket
from pipeline.contract import layout
from pipeline.contract.records import QuotaUsage
from pipeline.errors import StorageFull, Unavailable
from pipeline.ids import Clock

log = structlog.get_logger(__name__)

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


class UsageWindows:
    """The current windows of all owners. There is one object per process."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock
        self._windows: dict[str, UsageWindow] = {}

    def current(self, owner: str, policy: Policy) -> "UsageWindow":
        """Return the current window of an owner's quota."""
        now = self._clock()
        ends_at = policy.start(now) + policy.window
        key = layout.quota(owner, policy.name, ends_at)
        if key not in self._windows:
            self._windows = {k: window for k, window in self._windows.items() if window.ends_at > now}
            self._windows[key] = UsageWindow(self._bucket, key, ends_at)
        return self._windows[key]


class UsageWindow:
    """The usage of one quota by one owner in one window."""

    def __init__(self, bucket: Bucket, key: str, ends_at: datetime) -> None:
        self.ends_at = ends_at
        self.used = 0  # by all processes, as last read
        self.held = 0  # the part of `used` that this process has reserved and not yet used
        self.block = 1  # how much to reserve next
        self._bucket = bucket
        self._key = key
        self._seen = False
        self._etag: str | None = None
        self._lock = asyncio.Lock()
        self._failures = 0

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the lock. If the holder's call to the storage fails, the tasks that wait for it fail too."""
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
        """Count `wanted` as used, or the rest of the quota, and return the amount.

        If less than `least` is left, nothing is counted.

        Raises
        ------
        Unavailable
            The storage does not respond, or concurrent writes kept conflicting.
        """
        if not self._seen:
            await self.refresh()
        for _ in range(_TRIES):
            granted = min(wanted, limit - self.used)
            if granted < least:
                return 0
            if await self._write(self.used + granted):
                return granted
            await self.refresh()
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
            await self.refresh()
        raise _busy()

    async def refresh(self) -> None:
        """Read the stored count."""
        stored = await self._bucket.read(self._key)
        self._seen = True
        self._etag = stored.etag if stored else None
        usage = QuotaUsage.parse_stored(stored.body, key=self._key) if stored else None
        self.used = usage.used if usage else 0  # a damaged count must not lock out the owner

    async def _write(self, used: int) -> bool:
        body = QuotaUsage(used=used).to_json()
        try:
            if self._etag is None:
                etag = await self._bucket.put_once(self._key, body, JSON)
            else:
                etag = await self._bucket.replace(self._key, body, JSON, etag=self._etag)
        except StorageFull:
            # Requests that only read or delete must succeed without space. This process goes on counting.
            self.used = used
            return True
        if etag is None:
            return False
        self._etag, self.used = etag, used
        return True


def _busy() -> Unavailable:
    return Unavailable("Concurrent writes to the usage record kept conflicting.", retry_after=1)
