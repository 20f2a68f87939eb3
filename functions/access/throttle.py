"""How often somebody may show what is no key: counted by address, in this process alone.

Nobody guesses 256 random bits; the limit spares the storage the look-ups, and the logs the noise.
"""

from collections import OrderedDict, deque
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from math import ceil

from pipeline.errors import TooMany
from pipeline.ids import Clock

WINDOW = timedelta(minutes=1)
TRIES = 20
ADDRESSES = 10_000
_HOST_BITS = 64  # whoever has one IPv6 address has all that share its first half


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
        failures = self._failures.get(_network(address))
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
        network = _network(address)
        self._failures.setdefault(network, deque(maxlen=self._tries)).append(self._clock())
        self._failures.move_to_end(network)
        if len(self._failures) > self._addresses:
            self._failures.popitem(last=False)


def _network(address: str) -> str:
    """Give what counts as one: an IPv4 address, however it is written, or the /64 of an IPv6 one."""
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket has none
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or f"{int(ip) >> _HOST_BITS:x}/{_HOST_BITS}")
