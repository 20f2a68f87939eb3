"""Who shows a key: looked up on the storage, remembered for less than a minute, told in a time that tells nothing.

A change of a key is in effect everywhere within a minute: what was read is trusted for fifty seconds from when it
was asked for, and no asking takes longer than eight.  Expiry is checked at every use, by the clock.  That clock is
the wall's: a function in the cloud is frozen between its calls, and a monotonic one may stand still meanwhile.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from pipeline.access import api_keys, key_format
from pipeline.access.api_keys import Caller, KeyRecord
from pipeline.clients.resources import Resources
from pipeline.contract.records import format_utc
from pipeline.errors import Unauthorized, Unavailable

log = structlog.get_logger(__name__)

TRUSTED_FOR = timedelta(seconds=50)
LOOK_UP_SECONDS = 8.0
RETRY_AFTER = timedelta(seconds=2)
USE_NOTED_EVERY = timedelta(minutes=10)
NOTING_SECONDS = 2.0
REMEMBERED = 10_000

Kept = TypeVar("Kept")


class KeyLookup:
    """The keys that were shown to this process of late.

    Parameters
    ----------
    resources
        Where the keys are stored, and the clock.
    remembered
        How many look-ups are kept: of keys that were proven, and of all others.
    look_up_seconds
        How long the storage may take to answer.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        remembered: int = REMEMBERED,
        look_up_seconds: float = LOOK_UP_SECONDS,
    ) -> None:
        self._resources = resources
        self._look_up_seconds = look_up_seconds
        # Apart, so that a flood of made-up ids can't push out the keys that are in use.
        self._proven: _Recent[_LookUp] = _Recent(remembered)
        self._others: _Recent[_LookUp] = _Recent(remembered)
        self._noted: _Recent[datetime] = _Recent(remembered)

    async def caller(self, text: str) -> Caller:
        """Tell who shows this key.

        Raises
        ------
        Unauthorized
            It is none, or none that is good now.  That a key is expired or revoked is told only to whoever has it.
        Unavailable
            The storage does not answer: an old answer could be of a key that was revoked since.
        """
        presented = key_format.parse(text)
        if presented is None:
            raise Unauthorized(
                "This is no API key; it should be one whole key, `vck_...`, as it was shown when made."
            )
        look_up = self._look_up(presented.key_id)
        record = await look_up.record()
        if not key_format.digest_matches(presented.digest, record.digest if record else None) or record is None:
            raise Unauthorized("This API key is not known.")
        self._proven.put(presented.key_id, look_up)
        _check_good(record, self._resources.clock())
        await self._note_use(record.key_id)
        return record.caller

    def is_cached(self, key_id: str) -> bool:
        """Return whether a key with this id was accepted lately, so that the storage need not be asked."""
        found = self._proven.get(key_id)
        return found is not None and found.is_trusted(self._resources.clock())

    async def is_still_valid(self, key_id: str) -> bool:
        """Tell whether a key that was shown before, as an open connection's was, would still be taken.

        Raises
        ------
        Unavailable
            The storage does not answer.
        """
        if not key_format.is_key_id(key_id):
            return False
        look_up = self._look_up(key_id)
        record = await look_up.record()
        if record is None:
            return False
        self._proven.put(key_id, look_up)
        return record.is_good(self._resources.clock())

    def _look_up(self, key_id: str) -> "_LookUp":
        """Find the look-up that is still trusted, or still under way, or begin one."""
        now = self._resources.clock()
        for found in (self._proven.get(key_id), self._others.get(key_id)):
            if found is not None and found.is_trusted(now):
                return found
        begun = _LookUp(now, asyncio.create_task(self._read(key_id)))
        self._others.put(key_id, begun)
        return begun

    async def _read(self, key_id: str) -> "KeyRecord | _Unanswered | None":
        try:
            async with asyncio.timeout(self._look_up_seconds):
                return await api_keys.read(self._resources, key_id)
        except (Unavailable, TimeoutError) as error:
            log.warning("could not look up a key", key_id=key_id, reason=str(error) or "no answer in time")
            return _Unanswered()

    async def _note_use(self, key_id: str) -> None:
        """Remember the use, now and then, and at the cost of nobody's request."""
        now, last = self._resources.clock(), self._noted.get(key_id)
        if last is not None and timedelta() <= now - last < USE_NOTED_EVERY:
            return
        self._noted.put(key_id, now)
        try:
            async with asyncio.timeout(NOTING_SECONDS):
                await api_keys.record_use(self._resources, key_id)
        except (Unavailable, TimeoutError) as error:
            log.warning("could not note a key's use", key_id=key_id, reason=str(error) or "no answer in time")


class _Unanswered:
    """Stands for the answer that the storage did not give."""


@dataclass(frozen=True, slots=True)
class _LookUp:
    """One request to the storage, which all who ask for the key meanwhile share."""

    began: datetime
    task: "asyncio.Task[KeyRecord | _Unanswered | None]"

    def is_trusted(self, now: datetime) -> bool:
        """Tell whether this one serves, so that no other is needed."""
        if not self.task.done():
            # A loop that is no longer run will never end it.
            return self.task.get_loop() is asyncio.get_running_loop()
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        lifetime = RETRY_AFTER if isinstance(self.task.result(), _Unanswered) else TRUSTED_FOR
        return timedelta() <= now - self.began < lifetime

    async def record(self) -> KeyRecord | None:
        """Wait for what is stored; who stops waiting stops nobody else."""
        answer = await asyncio.shield(self.task)
        if isinstance(answer, _Unanswered):
            raise Unavailable(
                "Keys can't be looked up now; try again shortly.", retry_after=int(RETRY_AFTER.total_seconds())
            )
        return answer


class _Recent(Generic[Kept]):
    """So many things by key id, and no more: the one unused for the longest goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def get(self, key_id: str) -> Kept | None:
        """Find one, and count that as use."""
        if key_id in self._kept:
            self._kept.move_to_end(key_id)
        return self._kept.get(key_id)

    def put(self, key_id: str, kept: Kept) -> None:
        """Keep one."""
        self._kept[key_id] = kept
        self._kept.move_to_end(key_id)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)


def _check_good(record: KeyRecord, now: datetime) -> None:
    if record.revoked_at is not None:
        raise Unauthorized("This API key was revoked.")
    if record.expires_at is not None and record.is_expired(now):
        raise Unauthorized(f"This API key expired at {format_utc(record.expires_at)}.")
