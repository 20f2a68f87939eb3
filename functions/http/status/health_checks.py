"""Health checks of this process's dependencies, cached for a second."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import ClientError, ClientSession, ClientTimeout

from pipeline.clients.resources import Resources
from pipeline.errors import StorageFull, Unavailable

TIMEOUT_SECONDS = 2.0
CACHED_FOR = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The dependencies that can't be reached, and the worker's own status if there is one worker to query."""

    unreachable: tuple[str, ...]
    worker: str | None
    full: tuple[str, ...] = ()
    """The storages that have no space left."""


class HealthChecks:
    """The checks of one process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._checking = asyncio.Lock()
        self._checked_at: datetime | None = None
        self._report = HealthReport((), None)

    async def report(self) -> HealthReport:
        """Return the last report if it is not older than a second, otherwise a new one."""
        async with self._checking:
            now = self._resources.clock()
            if self._checked_at is None or not timedelta() <= now - self._checked_at < CACHED_FOR:
                self._report = await self._check()
                self._checked_at = now
            return self._report

    async def _check(self) -> HealthReport:
        resources = self._resources
        checks = {
            "storage": resources.bucket.ping(),
            "voice storage": resources.voices.ping(),
            "synthesis queue": resources.synthesis.ping(),
        }
        worker, errors = await asyncio.gather(
            _worker_status(resources.settings.worker_health_url),
            asyncio.gather(*(_error_of(check) for check in checks.values())),
        )
        failed = {name: error for name, error in zip(checks, errors, strict=True) if error}
        full = tuple(name for name, error in failed.items() if isinstance(error, StorageFull))
        return HealthReport(tuple(name for name in failed if name not in full), worker, full)


async def _worker_status(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        async with ClientSession(timeout=ClientTimeout(TIMEOUT_SECONDS)) as client, client.get(url) as answer:
            return str((await answer.json())["status"])
    except (ClientError, TimeoutError, OSError, ValueError, KeyError):
        return "unreachable"


async def _error_of(check: Awaitable[None]) -> Exception | None:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await check
    except (Unavailable, TimeoutError) as error:
        return error
    return None
