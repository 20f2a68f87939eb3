"""Stop, loss of the engine, and logs of a worker."""

import asyncio
import threading
from dataclasses import replace
from typing import Any, cast

import aiohttp
import pytest
import structlog
from structlog.testing import capture_logs
from supervision.ports import free_port

from gpu_runner.engines import CannotLoad, DownloadFailed, EngineLost, OnStart
from gpu_runner.worker import run_worker
from pipeline.contract.engines import EngineStart
from pipeline.contract.records import Source
from pipeline.domain import acceptance, jobs
from pipeline.errors import InvalidInput
from tests.support.engines import ScriptedEngine
from tests.support.fakes.clock import settle
from tests.support.fakes.resources import Fakes
from tests.support.http_server import override
from tests.support.job_requests import (
    TEXT,
    TRANSCRIPTION,
    make_request,
    store_upload,
    submit_upload_job,
)
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


async def test_stop_finishes_running_and_returns_waiting(fakes: Fakes) -> None:
    engine = ScriptedEngine(capacity=2)
    engine.paused = True
    requests = [await submit_upload_job(fakes.resources) for _ in range(4)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 2)
        await until(lambda: fakes.synthesis.visible == [])
        spoken = list(engine.admitted)
        worker.stop.set()
        await until(lambda: len(fakes.synthesis.visible) == 2)
        assert not worker.task.done()
        engine.paused = False
        await worker.finish()
    assert engine.admitted == spoken
    ended = {request.job_id for request in requests if await jobs.read_outcome(fakes.resources, request.job_id)}
    assert ended == set(spoken)
    assert len(fakes.synthesis.visible) == len(fakes.synthesis.bodies) == 2


async def test_stop_returns_unfinished_after_timeout(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        worker.stop.set()
        await settle()
        await fakes.time.advance(99)
        assert not worker.task.done()
        await fakes.time.advance(1)
        await worker.finish()
        engine.paused = False
    assert len(fakes.synthesis.visible) == 1


async def test_stop_returns_new_message(fakes: Fakes) -> None:
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await until(lambda: fakes.synthesis.switch.count("receive"))
        worker.stop.set()
        await settle()
        request = await submit_upload_job(fakes.resources)
        await until(lambda: worker.task.done())
    assert len(fakes.synthesis.visible) == 1
    assert await jobs.read_outcome(fakes.resources, request.job_id) is None


async def test_lost_engine_returns_all_jobs(fakes: Fakes) -> None:
    engine = ScriptedEngine(capacity=1)
    engine.paused = True
    for _ in range(3):
        await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        engine.step_errors = [EngineLost("device-side assert")]
        with pytest.raises(EngineLost):
            await worker.finish()
    await fakes.time.advance(1)
    assert len(fakes.synthesis.visible) == 3


async def test_dead_engine_thread_returns_all_jobs(fakes: Fakes) -> None:
    engine = ScriptedEngine(capacity=2)
    engine.paused = True
    requests = [await submit_upload_job(fakes.resources) for _ in range(3)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 2 and fakes.synthesis.visible == [])
        engine.step_errors = [SystemExit("bye")]
        async with asyncio.timeout(5):
            while not worker.task.done():
                await fakes.time.advance(0.1)
                await asyncio.sleep(0.002)
        with pytest.raises(EngineLost, match="SystemExit: bye"):
            await worker.task
    await fakes.time.advance(1)
    assert len(fakes.synthesis.visible) == len(requests)


async def test_stop_while_loading(fakes: Fakes) -> None:
    loading = threading.Event()

    def load(_on_start: OnStart) -> ScriptedEngine:
        loading.wait(10)
        return ScriptedEngine()

    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(fakes.resources, load, stop, sleep=fakes.time.sleep))
    await settle()
    stop.set()
    async with asyncio.timeout(5):
        await task
    loading.set()
    assert fakes.synthesis.switch.count("receive") == 0


async def test_failed_download_is_retried(fakes: Fakes) -> None:
    results: list[DownloadFailed | ScriptedEngine] = [DownloadFailed("The hub is down."), ScriptedEngine()]

    def load(on_start: OnStart) -> ScriptedEngine:
        on_start(EngineStart(phase="downloading", bytes=7, total_bytes=9, remaining_seconds=1))
        result = results.pop(0)
        if isinstance(result, DownloadFailed):
            raise result
        return result

    port = free_port("127.0.0.1")
    resources = replace(fakes.resources, settings=override(fakes.resources.settings, worker_health_port=port))
    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(resources, load, stop, sleep=fakes.time.sleep))

    async def health() -> dict[str, Any]:
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/health") as answer:
            return cast("dict[str, Any]", await answer.json())

    await until(lambda: len(results) == 1)
    await settle()
    reported = await health()
    assert reported["status"] == "starting"
    assert reported["engine_start"] == {
        "phase": "downloading",
        "bytes": 7,
        "total_bytes": 9,
        "error": "The hub is down.",
    }
    await fakes.time.advance(5)
    await until(lambda: not results)
    await settle()
    reported = await health()
    assert "engine_start" not in reported
    assert reported["status"] == "ready"
    stop.set()
    async with asyncio.timeout(10):
        while not task.done():
            await fakes.time.advance(0.5)
            await asyncio.sleep(0.002)
    await task


async def test_unloadable_engine_is_reported_before_end(fakes: Fakes) -> None:
    def load(_on_start: OnStart) -> ScriptedEngine:
        raise CannotLoad("Too little memory.")

    port = free_port("127.0.0.1")
    resources = replace(fakes.resources, settings=override(fakes.resources.settings, worker_health_port=port))
    with capture_logs() as logs:
        task = asyncio.create_task(run_worker(resources, load, asyncio.Event(), sleep=fakes.time.sleep))
        await until(lambda: any(entry["event"] == "can't load the engine" for entry in logs))
        await settle()
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/health") as answer:
        assert (await answer.json())["engine_start"] == {"phase": "loading", "error": "Too little memory."}
    await fakes.time.advance(60)
    with pytest.raises(CannotLoad):
        await task


async def test_log_of_job_end_has_no_text(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.admit_errors["The text is secret too."] = InvalidInput("The text is odd.", field="text")
    session_id = await store_upload(fakes.resources)
    requests = [
        make_request(fakes.resources, Source(session_id=session_id), session_id, text=text, correlation_id=id_)
        for text, id_ in ((TEXT, "corr-1"), ("The text is secret too.", "corr-2"))
    ]
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with fake_time_worker(fakes, engine) as worker:
            for request in requests:
                await acceptance.accept(fakes.resources, request)
            await worker.until_ended(*(request.job_id for request in requests))
    ended = {entry["job_id"]: entry for entry in logs if entry["event"] == "job ended"}
    assert {job_id: (entry["correlation_id"], entry["status"]) for job_id, entry in ended.items()} == {
        requests[0].job_id: ("corr-1", "succeeded"),
        requests[1].job_id: ("corr-2", "failed"),
    }
    facts = ended[requests[0].job_id]
    assert facts["synthesis_seconds"] == 0.5
    assert facts["audio_seconds"] > 0
    assert {"queued_seconds", "first_audio_seconds", "real_time_factor"} <= facts.keys()
    assert not [entry for entry in logs if any(text in str(entry) for text in (TEXT, "secret", TRANSCRIPTION))]
