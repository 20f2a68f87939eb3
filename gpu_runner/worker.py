"""One worker from start to stop: serve health, load the engine, process jobs, drain."""

import asyncio
from collections.abc import Callable

import structlog

from gpu_runner import health
from gpu_runner.dependency_health import Dependencies, Sleep
from gpu_runner.engines import Engine, Reproducible
from gpu_runner.health import Health
from gpu_runner.queue.consumer import Consumer
from gpu_runner.queue.protection import protection_for
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.engine_thread import EngineThread
from gpu_runner.synthesis.prompt_store import PromptStore
from pipeline.clients.resources import Resources
from pipeline.errors import Misconfigured, Unavailable

ENGINE_JOIN_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def run_worker(
    resources: Resources,
    load: Callable[[], Engine],
    stop: asyncio.Event,
    *,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Load the engine and consume the queue until `stop` is set, then drain.

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
    engine_thread = EngineThread(load)
    async with (
        health.serve(status, resources.settings.worker_health_port),
        protection_for(resources.settings, resources.clock, sleep=sleep) as protection,
    ):
        try:
            engine = await _loaded(engine_thread, stop)
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


async def _loaded(engine_thread: EngineThread, stop: asyncio.Event) -> Engine | None:
    """Wait for the engine. None if the worker is to stop first."""
    loading = asyncio.create_task(engine_thread.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([loading, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if loading.done():
        return loading.result()
    loading.cancel()
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
