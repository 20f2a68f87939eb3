"""How often somebody may show what is no key: counted by address, in this process alone.

Nobody guesses 256 random bits; the limit spares the storage the look-ups, and the logs the noise.
"""

from collections import OrderedDict, deque
from datetime import datetime, timedelta
from math import ceil

from functions.access.networks import network_of
from pipeline.errors import TooMany
from pipeline.ids import Clock

WINDOW = timedelta(minutes=1)
TRIES = 20
ADDRESSES = 10_000


class FailedKeyThrottle:
    """The latest failures of each address; of too many addresses, those that failed last are remembered."""

    def __init__(self, clock: Clock, *, tries: int = TRIES, addresses: int = ADDRESSES) -> None:
        self._clock = clock
        self._tries = tries
        self._addresses = addresses
        self._failures: OrderedDict[str, deque[datetime]] = OrderedDict()

    def check(self, address: str) -> None:
        """Let an address try again.

        Raises
        ------
        TooMany
            It has failed too often within the last minute.
        """
        failures = self._failures.get(network_of(address))
        if failures is None or len(failures) < self._tries:
            return
        elapsed = self._clock() - failures[0]
        if timedelta() <= elapsed < WINDOW:
            raise TooMany(
                f"{self._tries} tries from {address} failed within a minute; wait, and use a key that is good.",
                retry_after=ceil((WINDOW - elapsed).total_seconds()),
            )

    def note(self, address: str) -> None:
        """Count a failure."""
        network = network_of(address)
        self._failures.setdefault(network, deque(maxlen=self._tries)).append(self._clock())
        self._failures.move_to_end(network)
        if len(self._failures) > self._addresses:
            self._failures.popitem(last=False)
