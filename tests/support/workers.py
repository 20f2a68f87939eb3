"""Workers in the test process, on any `Resources`."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gpu_runner.analysis.process import AnalysisProcess
from gpu_runner.engines import Engine, OnStart
from gpu_runner.worker import run_worker
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from tests.support.fakes.resources import Fakes
from tests.support.waiting import until


class Worker:
    """A running worker.  `task` ends with it."""

    task: "asyncio.Task[None]"

    def __init__(self, stop: asyncio.Event) -> None:
        self.stop = stop


@asynccontextmanager
async def real_time_worker(
    resources: Resources, engine: Engine, *, loading_seconds: float = 0
) -> AsyncIterator[Worker]:
    """Run a worker, and shut it down when the context ends."""

    def load(_on_start: OnStart) -> Engine:
        time.sleep(loading_seconds)
        return engine

    worker = Worker(asyncio.Event())
    worker.task = asyncio.create_task(run_worker(resources, load, worker.stop))
    try:
        yield worker
    finally:
        worker.stop.set()
        async with asyncio.timeout(20):
            await worker.task


@dataclass(slots=True)
class FakeTimeWorker:
    """A worker over fakes.  Its sleeps end when the test advances the time."""

    fakes: Fakes
    task: "asyncio.Task[None]"
    stop: asyncio.Event

    async def until_ended(self, *job_ids: str) -> None:
        """Wait until these jobs have an outcome."""
        await until(lambda: self._have_ended(job_ids))

    async def advance_until_ended(self, *job_ids: str) -> None:
        """Advance the clock until these jobs have an outcome."""
        async with asyncio.timeout(10):
            while not self._have_ended(job_ids):
                await self.fakes.time.advance(0.5)
                await asyncio.sleep(0.002)

    def _have_ended(self, job_ids: Iterable[str]) -> bool:
        return {layout.outcome(job_id) for job_id in job_ids} <= self.fakes.bucket.objects.keys()

    async def finish(self) -> None:
        """Shut down, and advance the time meanwhile."""
        self.stop.set()
        async with asyncio.timeout(10):
            while not self.task.done():
                await self.fakes.time.advance(0.5)
                await asyncio.sleep(0.002)
        await self.task


@asynccontextmanager
async def fake_time_worker(
    fakes: Fakes, engine: Engine, analysis: AnalysisProcess | None = None
) -> AsyncIterator[FakeTimeWorker]:
    """Run a worker over fakes, and shut it down when the context ends."""
    stop = asyncio.Event()
    task = asyncio.create_task(
        run_worker(fakes.resources, lambda _: engine, stop, sleep=fakes.time.sleep, analysis=analysis)
    )
    worker = FakeTimeWorker(fakes, task, stop)
    try:
        yield worker
    finally:
        if not task.done():
            await worker.finish()
