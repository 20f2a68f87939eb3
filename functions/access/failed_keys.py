"""Throttling of failed authentication, by address and by key or ticket: counted per process.

A credential is checked before a request is refused: a valid one is never refused because of failures of other
clients at the same address.  256 random bits can't be guessed; the limits bound the look-ups and the log output.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from math import ceil
from weakref import WeakValueDictionary

from pipeline.addresses import client_network
from pipeline.errors import TooMany
from pipeline.ids import Clock

WINDOW = timedelta(minutes=1)
TRIES = 20
REMEMBERED = 10_000

_Counted = tuple[str, str | None]
"""A network and the id of a credential, or None for all credentials together."""


class FailedKeyThrottle:
    """The latest failures by address and credential; the number of entries is limited, the oldest are evicted."""

    def __init__(self, clock: Clock, *, tries: int = TRIES, remembered: int = REMEMBERED) -> None:
        self._clock = clock
        self._tries = tries
        self._remembered = remembered
        self._failures: OrderedDict[_Counted, deque[datetime]] = OrderedDict()
        self._look_ups: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def look_up(self, address: str) -> AsyncIterator[None]:
        """Allow an address one look-up at a time once it has failed too often, with any credential."""
        network = client_network(address)
        if not self._seconds_left((network, None)):
            yield
            return
        async with self._look_ups.setdefault(network, asyncio.Lock()):
            yield

    def note(self, address: str, credential_id: str) -> None:
        """Count a failure.

        Raises
        ------
        TooMany
            The address has failed too often with this credential within the last minute.
        """
        network = client_network(address)
        if seconds := self._seconds_left((network, credential_id)):
            raise TooMany(
                f"{self._tries} requests from {address} with this key or ticket failed within a minute. "
                "Wait, and use a valid one.",
                retry_after=seconds,
            )
        self._count((network, credential_id))
        self._count((network, None))

    def _seconds_left(self, counted: _Counted) -> int:
        """Return how many seconds the limit stays exceeded; 0 if it is not exceeded."""
        failures = self._failures.get(counted)
        if failures is None or len(failures) < self._tries:
            return 0
        elapsed = self._clock() - failures[0]
        return ceil((WINDOW - elapsed).total_seconds()) if timedelta() <= elapsed < WINDOW else 0

    def _count(self, counted: _Counted) -> None:
        self._failures.setdefault(counted, deque(maxlen=self._tries)).append(self._clock())
        self._failures.move_to_end(counted)
        if len(self._failures) > self._remembered:
            self._failures.popitem(last=False)
