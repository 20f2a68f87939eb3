"""Verification of API keys: looked up on the storage, cached for less than a minute, compared in constant time.

A change of a key is in effect everywhere within a minute: a look-up is cached for fifty seconds from when it was
started, and times out after eight.  Expiry is checked at every use, by the wall clock: a function in the cloud is
frozen between its invocations, and a monotonic clock may stop meanwhile.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from cachetools import LRUCache

from pipeline.access import api_keys, key_format
from pipeline.access.api_keys import Caller, KeyRecord
from pipeline.clients.resources import Resources
from pipeline.contract.records import format_utc
from pipeline.errors import Unauthorized, Unavailable

log = structlog.get_logger(__name__)

CACHE_LIFETIME = timedelta(seconds=50)
LOOK_UP_TIMEOUT_SECONDS = 8.0
RETRY_AFTER = timedelta(seconds=2)
LAST_USE_INTERVAL = timedelta(minutes=10)
LAST_USE_TIMEOUT_SECONDS = 2.0
CACHE_SIZE = 10_000


class KeyLookup:
    """Look-up of keys, with a cache. There is one per process.

    Parameters
    ----------
    resources
        Where the keys are stored, and the clock.
    cache_size
        How many look-ups are cached, separately for verified keys and for all others.
    look_up_timeout_seconds
        How long the storage may take to respond.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        cache_size: int = CACHE_SIZE,
        look_up_timeout_seconds: float = LOOK_UP_TIMEOUT_SECONDS,
    ) -> None:
        self._resources = resources
        self._look_up_timeout_seconds = look_up_timeout_seconds
        # Separate caches, so that a flood of invalid ids can't evict the keys that are in use.
        self._verified: LRUCache[str, _LookUp] = LRUCache(cache_size)
        self._others: LRUCache[str, _LookUp] = LRUCache(cache_size)
        self._last_uses: LRUCache[str, datetime] = LRUCache(cache_size)

    async def caller(self, text: str) -> Caller:
        """Return the caller that sent this key.

        Raises
        ------
        Unauthorized
            It is no key, or not valid now.  That a key is expired or revoked is disclosed only to its holder.
        Unavailable
            The storage does not respond. A key whose cache entry has expired may have been revoked since.
        """
        presented = key_format.parse(text)
        if presented is None:
            raise Unauthorized(
                "This is not an API key. It should be a complete key, `vck_...`, as it was shown at its creation."
            )
        look_up = self._look_up(presented.key_id)
        record = await look_up.record()
        if not key_format.digest_matches(presented.digest, record.digest if record else None) or record is None:
            raise Unauthorized("This API key is not known.")
        self._verified[presented.key_id] = look_up
        _check_valid(record, self._resources.clock())
        await self._record_use(record.key_id)
        return record.caller

    def is_cached(self, key_id: str) -> bool:
        """Return whether a key with this id was accepted recently, so that no request to the storage is needed."""
        found = self._verified.get(key_id)
        return found is not None and found.is_fresh(self._resources.clock())

    async def is_still_valid(self, key_id: str) -> bool:
        """Return whether a key that was verified before, such as an open connection's, is still valid.

        Raises
        ------
        Unavailable
            The storage does not respond.
        """
        if not key_format.is_key_id(key_id):
            return False
        look_up = self._look_up(key_id)
        record = await look_up.record()
        if record is None:
            return False
        self._verified[key_id] = look_up
        return record.is_valid(self._resources.clock())

    def _look_up(self, key_id: str) -> "_LookUp":
        """Return the look-up that is fresh or in progress, or start one."""
        now = self._resources.clock()
        for found in (self._verified.get(key_id), self._others.get(key_id)):
            if found is not None and found.is_fresh(now):
                return found
        started = _LookUp(now, asyncio.create_task(self._read(key_id)))
        self._others[key_id] = started
        return started

    async def _read(self, key_id: str) -> "KeyRecord | _Failed | None":
        try:
            async with asyncio.timeout(self._look_up_timeout_seconds):
                return await api_keys.read(self._resources, key_id)
        except (Unavailable, TimeoutError) as error:
            log.warning("could not look up a key", key_id=key_id, reason=str(error) or "no answer in time")
            return _Failed()

    async def _record_use(self, key_id: str) -> None:
        """Record the use, at most once in ten minutes. A failure does not fail the request."""
        now, last = self._resources.clock(), self._last_uses.get(key_id)
        if last is not None and timedelta() <= now - last < LAST_USE_INTERVAL:
            return
        self._last_uses[key_id] = now
        try:
            async with asyncio.timeout(LAST_USE_TIMEOUT_SECONDS):
                await api_keys.record_use(self._resources, key_id)
        except (Unavailable, TimeoutError) as error:
            log.warning("could not record a key's use", key_id=key_id, reason=str(error) or "no answer in time")


class _Failed:
    """The result of a look-up that failed or timed out."""


@dataclass(frozen=True, slots=True)
class _LookUp:
    """One request to the storage, shared by all concurrent requests with this key."""

    started_at: datetime
    task: "asyncio.Task[KeyRecord | _Failed | None]"

    def is_fresh(self, now: datetime) -> bool:
        """Return whether the result is fresh, so that no other look-up is needed."""
        if not self.task.done():
            # An event loop that no longer runs will never complete it.
            return self.task.get_loop() is asyncio.get_running_loop()
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        lifetime = RETRY_AFTER if isinstance(self.task.result(), _Failed) else CACHE_LIFETIME
        return timedelta() <= now - self.started_at < lifetime

    async def record(self) -> KeyRecord | None:
        """Return the record. A caller that is cancelled does not cancel the look-up for the others."""
        answer = await asyncio.shield(self.task)
        if isinstance(answer, _Failed):
            raise Unavailable(
                "Keys can't be looked up now. Try again shortly.", retry_after=int(RETRY_AFTER.total_seconds())
            )
        return answer


def _check_valid(record: KeyRecord, now: datetime) -> None:
    if record.revoked_at is not None:
        raise Unauthorized("This API key was revoked.")
    if record.expires_at is not None and record.is_expired(now):
        raise Unauthorized(f"This API key expired at {format_utc(record.expires_at)}.")
