"""A limit of requests without a key, per address in this process."""

from cachetools import TTLCache

from pipeline.addresses import client_network
from pipeline.errors import TooMany
from pipeline.ids import Clock

WINDOW_SECONDS = 60
REMEMBERED = 10_000


class AddressLimit:
    """Counts requests in windows of a minute. Each window starts with the first request of an address."""

    def __init__(self, clock: Clock, per_minute: int) -> None:
        self._per_minute = per_minute
        self._counts: TTLCache[str, list[int]] = TTLCache(
            REMEMBERED, WINDOW_SECONDS, timer=lambda: clock().timestamp()
        )

    def take(self, address: str) -> None:
        """Count a request of an address, or of an IPv6 /64.

        Raises
        ------
        TooMany
            The address has reached the limit.
        """
        count = self._counts.setdefault(client_network(address), [0])  # a new value would start the window again
        if count[0] >= self._per_minute:
            raise TooMany(
                f"Limit of {self._per_minute} requests a minute without a key reached. Send a key, or wait.",
                retry_after=WINDOW_SECONDS,
            )
        count[0] += 1
