"""Limits of open connections, WebSockets and event streams together, per key and per address in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.addresses import client_network
from pipeline.errors import TooMany
from pipeline.settings import Settings

RETRY_SECONDS = 10


class ConnectionLimits:
    """Counts of the connections that are open or being opened."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: Counter[str] = Counter()

    @contextmanager
    def of_address(self, address: str) -> Iterator[None]:
        """Count a connection of an address, or of an IPv6 /64, while the context lasts.

        Raises
        ------
        TooMany
            The address has reached the limit.
        """
        limit = self._settings.connections_per_address
        with self._counted(f"address {client_network(address)}", limit, "This address"):
            yield

    @contextmanager
    def of_key(self, key_id: str | None) -> Iterator[None]:
        """Count a connection of a key while the context lasts; callers without one are not counted.

        Raises
        ------
        TooMany
            The key has reached the limit.
        """
        limit = 0 if key_id is None else self._settings.connections_per_key
        with self._counted(f"key {key_id}", limit, "This key"):
            yield

    @contextmanager
    def _counted(self, name: str, limit: int, holder: str) -> Iterator[None]:
        if limit and self._open[name] >= limit:
            raise TooMany(
                f"{holder} has {limit} open connections, the maximum; close one to open another.",
                retry_after=RETRY_SECONDS,
            )
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
