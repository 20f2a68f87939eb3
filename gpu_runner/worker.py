"""One worker from start to stop: serve health, load the engine, process jobs, drain."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from gpu_runner import health
from gpu_runner.analysis.analyses import Analyses
from gpu_runner.analysis.process import AnalysisProcess
from gpu_runner.dependency_health import Dependencies, Sleep
from gpu_runner.engines import CannotLoad, DownloadFailed, Engine, OnStart, Reproducible
from gpu_runner.health import Health
from gpu_runner.queue.consumer import Consumer
from gpu_runner.queue.protection import protection_for
from gpu_runner.streaming.posts import Posts
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.disclaimers import Announcing, Disclaimers
from gpu_runner.synthesis.engine_thread import EngineThread
from gpu_runner.synthesis.prompt_store import PromptStore
from gpu_runner.synthesis.revocations import Revocations
from gpu_runner.synthesis.watch import Watches
from gpu_runner.synthesis.watermarking import THREADS, Synthesize, Watermarking
from pipeline.clients.resources import Resources
from pipeline.contract.engines import EngineStart
from pipeline.errors import Misconfigured, Unavailable
from pipeline.marking import watermark_network
from pipeline.marking.marks import is_active
from pipeline.provenance.manifests import Manifests
from pipeline.settings import Mark, Settings

ENGINE_JOIN_SECONDS = 1.0
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0
REPORT_SECONDS = 60.0  # how long `/health` shows the reason before a worker that cannot load its engine ends

T = TypeVar("T")

log = structlog.get_logger(__name__)


async def run_worker(
    resources: Resources,
    load: Callable[[OnStart], Engine],
    stop: asyncio.Event,
    *,
    sleep: Sleep = asyncio.sleep,
    analysis: AnalysisProcess | None = None,
) -> None:
    """Load the engine and consume the queue until `stop` is set, then drain. A failed download is retried.

    Without an analysis process, recordings are not analysed.

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
    SettingsError
        A required mark is unavailable, or the signing certificate can't be used.
    """
    manifests = Manifests(resources)
    marks = _marks(resources.settings)
    await _check_configuration(resources)
    revocations = Revocations(resources)
    analyses = Analyses(resources, analysis, revocations.covers)
    dependencies = Dependencies(resources.clock)
    status = Health(resources, dependencies)
    marking_threads = ThreadPoolExecutor(THREADS, "watermark")
    async with (
        health.serve(status, resources.settings.worker_health_port),
        protection_for(resources.settings, resources.clock, sleep=sleep) as protection,
    ):
        engine_thread, engine = await _loaded(load, status, stop, sleep)
        try:
            if engine is not None:
                synthesize: Synthesize = Announcing(engine_thread.synthesize, engine.sample_rate).synthesize
                if marks:
                    synthesize = Watermarking(synthesize, marking_threads, engine.sample_rate).synthesize
                context = WorkerContext(
                    resources,
                    engine_thread,
                    PromptStore(resources, engine_thread, revocations),
                    manifests,
                    analyses,
                    synthesize,
                    Posts(resources.connections, sleep),
                    Disclaimers(resources, engine_thread.synthesize, engine.sample_rate),
                    marks,
                    revocations,
                    Watches(resources.bucket),
                    engine.sample_rate,
                    engine.model,
                    lambda: _reproducible_as(engine, marks),
                    sleep,
                )
                status.model = engine.model
                await _consume(Consumer(context, dependencies, protection, sleep=sleep), status, stop)
        finally:
            marking_threads.shutdown(wait=False)
            await analyses.aclose()
            await engine_thread.end(ENGINE_JOIN_SECONDS)


def _marks(settings: Settings) -> tuple[Mark, ...]:
    """Return the marks of the samples, which this process adds."""
    is_marked = is_active("watermark", settings, missing=watermark_network.missing_package())
    return ("watermark",) if is_marked else ()


def _reproducible_as(engine: Engine, marks: tuple[Mark, ...]) -> str | None:
    """Return the name of everything that the audio depends on besides the utterance, with its marks."""
    name = engine.reproducible_as if isinstance(engine, Reproducible) else None
    return name and "+".join((name, *marks))


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
        except CannotLoad as error:
            log.warning("can't load the engine", reason=str(error))
            status.engine_start = EngineStart(error=str(error))
            await _unless_stopped(sleep(REPORT_SECONDS), stop)
            raise
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
