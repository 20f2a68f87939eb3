"""One worker from start to stop: serve health, load the engine, process jobs, drain."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from gpu_runner import health
from gpu_runner.dependency_health import Dependencies, Sleep
from gpu_runner.engines import DownloadFailed, Engine, OnStart, Reproducible
from gpu_runner.health import Health
from gpu_runner.queue.consumer import Consumer
from gpu_runner.queue.protection import protection_for
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.engine_thread import EngineThread
from gpu_runner.synthesis.prompt_store import PromptStore
from pipeline.clients.resources import Resources
from pipeline.contract.engines import EngineStart
from pipeline.errors import Misconfigured, Unavailable

ENGINE_JOIN_SECONDS = 1.0
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


async def run_worker(
    resources: Resources,
    load: Callable[[OnStart], Engine],
    stop: asyncio.Event,
    *,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Load the engine and consume the queue until `stop` is set, then drain. A failed download is retried.

    Raises
    ------
    CannotLoad
        The engine cannot be loaded.
    EngineLost
        The engine was lost. Every message was returned to the queue.
    CannotListen
        The health port is taken.
    Misconfigured
        The queue or a bucket does not exist, or the credentials may not use it.
    """
    await _check_configuration(resources)
    dependencies = Dependencies(resources.clock)
    status = Health(resources, dependencies)
    async with (
        health.serve(status, resources.settings.worker_health_port),
        protection_for(resources.settings, resources.clock, sleep=sleep) as protection,
    ):
        engine_thread, engine = await _loaded(load, status, stop, sleep)
        try:
            if engine is not None:
                context = WorkerContext(
                    resources,
                    engine_thread,
                    PromptStore(resources, engine_thread),
                    engine.sample_rate,
                    lambda: engine.reproducible_as if isinstance(engine, Reproducible) else None,
                    sleep,
                )
                status.model = engine.model
                await _consume(Consumer(context, dependencies, protection, sleep=sleep), status, stop)
        finally:
            await engine_thread.end(ENGINE_JOIN_SECONDS)


async def _check_configuration(resources: Resources) -> None:
    """Raise `Misconfigured` before the slow loading of the engine. An outage is left to the consumer."""
    pings = (resources.synthesis.ping(), resources.bucket.ping(), resources.voices.ping())
    for error in await asyncio.gather(*pings, return_exceptions=True):
        if isinstance(error, BaseException) and (
            isinstance(error, Misconfigured) or not isinstance(error, Unavailable)
        ):
            raise error


async def _loaded(
    load: Callable[[OnStart], Engine], status: Health, stop: asyncio.Event, sleep: Sleep
) -> tuple[EngineThread, Engine | None]:
    """Wait for the engine. None if the worker is to stop first."""

    def on_start(state: EngineStart) -> None:
        status.engine_start = state

    retry_seconds = FIRST_RETRY_SECONDS
    while True:
        engine_thread = EngineThread(lambda: load(on_start))
        try:
            return engine_thread, await _unless_stopped(engine_thread.start(), stop)
        except DownloadFailed as error:
            # A restart of the process would not help, and in a container it would lose the partial download.
            log.warning("can't load the engine", reason=str(error), retry_in_seconds=retry_seconds)
            status.engine_start = status.engine_start.model_copy(
                update={"phase": "downloading", "remaining_seconds": None, "error": str(error)}
            )
        await _unless_stopped(sleep(retry_seconds), stop)
        if stop.is_set():
            return engine_thread, None
        retry_seconds = min(2 * retry_seconds, LONGEST_RETRY_SECONDS)


async def _unless_stopped(waiting: Awaitable[T], stop: asyncio.Event) -> T | None:
    """Wait for a result. None if the worker is to stop first."""
    task, stopped = asyncio.ensure_future(waiting), asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    return None


async def _consume(consumer: Consumer, status: Health, stop: asyncio.Event) -> None:
    async def stop_when_told() -> None:
        await stop.wait()
        status.phase = "draining"
        log.info("worker stopping", in_flight=consumer.in_flight)
        consumer.stop()

    status.in_flight = lambda: consumer.in_flight
    status.phase = "ready"
    log.info("worker ready", model=status.model)
    stopper = asyncio.create_task(stop_when_told())
    try:
        await consumer.run()
    finally:
        stopper.cancel()
    log.info("worker stopped")
