"""The status of the service, from the queues and from the records of its processes in the storage."""

import asyncio
import platform
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from functions.http.status.health_checks import HealthChecks
from functions.http.status.job_statistics import JobStatistics, read_statistics
from pipeline.clients.queues import Queue
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.engines import EngineStart
from pipeline.contract.records import LastSweep, UtcSeconds
from pipeline.errors import Unavailable

FRESH = timedelta(seconds=5)
SWEEP_EVERY = timedelta(minutes=1)
# With a longer lag the service is `degraded`.
SWEEP_LATE = timedelta(minutes=5)


class QueueState(BaseModel):
    """The approximate number of messages in a queue."""

    waiting: int = Field(description="Messages that wait for a consumer")
    taken: int = Field(description="Messages that a consumer has received and not deleted")


class SweepState(BaseModel):
    """The deletion of expired objects."""

    last_at: UtcSeconds
    lag_seconds: float = Field(description="Delay of the next sweep, which is due every minute")
    swept: dict[str, int] = Field(description="Numbers of deleted objects and failed jobs in the last sweep")


class Versions(BaseModel):
    """The versions that are running."""

    service: str
    python: str
    backend: str = Field(description="The configured engine of the worker")


class ServiceStatus(BaseModel):
    """The status of the service at one moment."""

    status: Literal["ok", "degraded"] = Field(
        description="`degraded`: a dependency does not respond, the engine can't start, the sweep is late, or "
        "there are dead letters"
    )
    at: UtcSeconds
    worker: str | None = Field(description="As in `/health`; null if there is not a single worker")
    engine_start: EngineStart | None = Field(description="As in `/health`; null unless the worker starts")
    queues: dict[str, QueueState | None] = Field(description="Queues by name; null if a queue does not respond")
    sweep: SweepState | None = Field(description="Null before the first sweep")
    jobs: JobStatistics | None = Field(description="Jobs of the last hour; null if the storage does not respond")
    unreachable: list[str] = Field(description="Dependencies that do not respond, as in `/health`")
    full: list[str] = Field(description="Storages without space, as in `/health`")
    versions: Versions


class StatusReader:
    """Reads the status of the service; cached for a few seconds."""

    def __init__(self, resources: Resources, checks: HealthChecks, version: str) -> None:
        self._resources = resources
        self._checks = checks
        self._version = version
        self._reading = asyncio.Lock()
        self._last: ServiceStatus | None = None

    async def read(self) -> ServiceStatus:
        """Return the status of the service, at most a few seconds old."""
        async with self._reading:
            if self._last is None or self._resources.clock() - self._last.at >= FRESH:
                self._last = await self._look()
            return self._last

    async def _look(self) -> ServiceStatus:
        resources = self._resources
        health, queues, sweep, statistics = await asyncio.gather(
            self._checks.report(),
            _queues(resources),
            _sweep(resources),
            _statistics(resources),
        )
        engine_failed = health.engine_start is not None and health.engine_start.error is not None
        is_well = not health.unreachable and not health.full and not engine_failed and _is_well(queues, sweep)
        return ServiceStatus(
            status="ok" if is_well else "degraded",
            at=resources.clock(),
            worker=health.worker,
            engine_start=health.engine_start,
            queues=queues,
            sweep=sweep,
            jobs=statistics,
            unreachable=list(health.unreachable),
            full=list(health.full),
            versions=Versions(
                service=self._version,
                python=platform.python_version(),
                backend=resources.settings.tts_backend,
            ),
        )


def _is_well(queues: dict[str, QueueState | None], sweep: SweepState | None) -> bool:
    dead = queues["dead letters"]
    is_swept = sweep is None or sweep.lag_seconds <= SWEEP_LATE.total_seconds()
    return is_swept and (dead is None or dead.waiting == 0)


async def _queues(resources: Resources) -> dict[str, QueueState | None]:
    queues = {
        "synthesis": resources.synthesis,
        "dead letters": resources.synthesis_dead_letters,
        "events": resources.events,
    }
    states = await asyncio.gather(*(_state_of(queue) for queue in queues.values()))
    return dict(zip(queues, states, strict=True))


async def _state_of(queue: Queue) -> QueueState | None:
    try:
        counts = await queue.counts()
    except Unavailable:
        return None
    return QueueState(waiting=counts.visible, taken=counts.hidden)


async def _sweep(resources: Resources) -> SweepState | None:
    try:
        body = await resources.bucket.get(layout.LAST_SWEEP)
    except Unavailable:
        return None
    if body is None:
        return None
    last = LastSweep.model_validate_json(body)
    return SweepState(last_at=last.at, lag_seconds=_lag(last.at, resources.clock()), swept=last.swept)


def _lag(last: datetime, now: datetime) -> float:
    return round(max(0.0, (now - last - SWEEP_EVERY).total_seconds()), 1)


async def _statistics(resources: Resources) -> JobStatistics | None:
    try:
        return await read_statistics(resources)
    except Unavailable:
        return None
