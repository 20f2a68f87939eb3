"""Health checks of this process's dependencies, cached for a second."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import BaseModel, ValidationError

from pipeline.clients.resources import Resources
from pipeline.contract.engines import EngineStart
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
    engine_start: EngineStart | None = None
    """The state of the worker's engine while it starts."""


class WorkerHealth(BaseModel):
    """The part of the worker's own `/health` that is passed on."""

    status: str
    engine_start: EngineStart | None = None


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
            _worker_health(resources.settings.worker_health_url),
            asyncio.gather(*(_error_of(check) for check in checks.values())),
        )
        failed = {name: error for name, error in zip(checks, errors, strict=True) if error}
        full = tuple(name for name, error in failed.items() if isinstance(error, StorageFull))
        unreachable = tuple(name for name in failed if name not in full)
        if worker is None:
            return HealthReport(unreachable, None, full)
        return HealthReport(unreachable, worker.status, full, worker.engine_start)


async def _worker_health(url: str | None) -> WorkerHealth | None:
    if url is None:
        return None
    try:
        async with ClientSession(timeout=ClientTimeout(TIMEOUT_SECONDS)) as client, client.get(url) as answer:
            return WorkerHealth.model_validate_json(await answer.read())
    except (ClientError, TimeoutError, OSError, ValidationError):
        return WorkerHealth(status="unreachable")


async def _error_of(check: Awaitable[None]) -> Exception | None:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await check
    except (Unavailable, TimeoutError) as error:
        return error
    return None
