"""Workers against S3 and SQS over HTTP: the lifecycle of a job, and several workers on one queue."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import aiohttp
import pytest
from supervision.ports import free_port

from gpu_runner.engines import EngineLost
from pipeline.audio.wav import WAV, length_of_wav
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Request
from pipeline.domain import acceptance, jobs
from pipeline.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.job_requests import (
    TEXT,
    failure_of,
    store_upload,
    store_voice,
    submit_session_job,
    submit_upload_job,
    submit_voice_job,
    success_of,
)
from tests.support.moto_server import age_messages, count_visible, provisioned
from tests.support.speech import voice_wav
from tests.support.waiting import eventually, until
from tests.support.workers import real_time_worker


async def until_ended(resources: Resources, *requests: Request, seconds: float = 20) -> None:
    for request in requests:
        await eventually(partial(jobs.read_outcome, resources, request.job_id), seconds=seconds)


@pytest.fixture
async def short_visibility(settings: Settings) -> AsyncIterator[Resources]:
    """Resources with a visibility timeout of two seconds and at most two deliveries."""
    changes = {"visibility_timeout_seconds": 2, "max_receives": 2}
    async with provisioned(settings.model_copy(update=changes)) as connected:
        yield connected


async def test_preview_is_stored(resources: Resources) -> None:
    request = await submit_upload_job(resources)
    async with real_time_worker(resources, ScriptedEngine()):
        await until_ended(resources, request)
    outcome = await success_of(resources, request)
    assert outcome.preview is not None
    wav = await resources.bucket.read(outcome.preview.key)
    assert wav is not None
    assert wav.content_type == WAV
    assert length_of_wav(wav.body) == pytest.approx(
        (outcome.preview.sample_rate, outcome.preview.duration_seconds), abs=0.001
    )
    prompt = await resources.bucket.get(layout.reference(request).embedding)
    assert prompt is not None
    assert json.loads(prompt)["model"] == "mock-1"


async def test_prompts_are_reused(resources: Resources) -> None:
    session_id = await store_upload(resources)
    reference_id = await store_voice(resources, "nova")
    engine = ScriptedEngine()
    async with real_time_worker(resources, engine):
        for _ in range(2):
            requests = [
                await submit_session_job(resources, session_id),
                await submit_voice_job(resources, "nova", reference_id),
            ]
            await until_ended(resources, *requests)
    assert engine.prompts_made == 2
    assert await resources.voices.get("audio/voices/nova/embedding.json")


async def test_message_deleted_before_worker_stops(short_visibility: Resources) -> None:
    request = await submit_upload_job(short_visibility)
    async with real_time_worker(short_visibility, ScriptedEngine()):
        await until_ended(short_visibility, request)
    age_messages(short_visibility.settings, 2.2)
    assert list(await short_visibility.synthesis.receive(1, wait_seconds=0)) == []


async def test_stored_audio_completed_by_next_worker(short_visibility: Resources) -> None:
    request = await submit_upload_job(short_visibility)
    await short_visibility.synthesis.receive(1, wait_seconds=0)
    await short_visibility.bucket.put(layout.preview(request.job_id), voice_wav(100, seconds=3), WAV)
    written = await short_visibility.bucket.head(layout.preview(request.job_id))
    engine = ScriptedEngine()
    async with real_time_worker(short_visibility, engine):
        await until_ended(short_visibility, request)
    assert engine.admitted == [], "the job was synthesized again"
    outcome = await success_of(short_visibility, request)
    assert outcome.preview is not None
    assert written is not None
    assert outcome.preview.duration_seconds == 3.0
    assert outcome.completed_at == written.last_modified


async def test_slow_job_is_received_once(short_visibility: Resources) -> None:
    engines = ScriptedEngine(), ScriptedEngine()
    for engine in engines:
        engine.paused = True
    request = await submit_upload_job(short_visibility)
    async with real_time_worker(short_visibility, engines[0]), real_time_worker(short_visibility, engines[1]):
        await asyncio.sleep(5)  # more than twice the visibility timeout
        for engine in engines:
            engine.paused = False
        await until_ended(short_visibility, request)
    assert [*engines[0].admitted, *engines[1].admitted] == [request.job_id]


async def test_failing_job_reaches_dead_letters(short_visibility: Resources) -> None:
    engine = ScriptedEngine()
    engine.errors[TEXT] = RuntimeError("no such luck")
    request = await submit_upload_job(short_visibility)
    async with real_time_worker(short_visibility, engine):
        dead = await eventually(partial(short_visibility.synthesis_dead_letters.receive, 1, wait_seconds=0))
    message = parse_queue_message(dead[0].body)
    assert message is not None
    assert message.job_id == request.job_id
    assert len(engine.admitted) == 2


async def test_impossible_job_fails_at_once(resources: Resources) -> None:
    request = await submit_voice_job(resources, "nobody", resources.new_id())
    async with real_time_worker(resources, ScriptedEngine()):
        await until_ended(resources, request, seconds=15)
    assert (await failure_of(resources, request)).code == "not_found"


async def test_workers_share_queue(resources: Resources) -> None:
    engines = [ScriptedEngine(capacity=2) for _ in range(3)]
    session_id = await store_upload(resources)
    requests = [await submit_session_job(resources, session_id) for _ in range(24)]
    for request in requests[:6]:
        await acceptance.enqueue(resources, request.job_id)  # duplicate messages
    async with AsyncExitStack() as stack:
        for engine in engines:
            await stack.enter_async_context(real_time_worker(resources, engine))
        await until_ended(resources, *requests)
    admitted = Counter(job_id for engine in engines for job_id in engine.admitted)
    assert admitted.keys() == {request.job_id for request in requests}
    assert sum(1 for engine in engines if engine.admitted) > 1
    for request in requests:
        await success_of(resources, request)


async def test_stopping_worker_returns_messages(resources: Resources) -> None:
    """The visibility timeout is one minute, so the test only passes if the messages are returned."""
    first, second = ScriptedEngine(capacity=1), ScriptedEngine()
    first.paused = True
    requests = [await submit_upload_job(resources) for _ in range(4)]
    async with real_time_worker(resources, first) as worker:
        await until(lambda: first.active)
        await until(lambda: count_visible(resources.settings) == 0)
        worker.stop.set()
        async with real_time_worker(resources, second):
            await until(lambda: len(second.admitted) == 3)
            first.paused = False
            await until_ended(resources, *requests)
    assert len(first.admitted) == 1
    assert set(first.admitted) | set(second.admitted) == {request.job_id for request in requests}


async def test_engine_lost_returns_jobs(resources: Resources) -> None:
    dying, healthy = ScriptedEngine(), ScriptedEngine()
    dying.step_errors = [EngineLost("device-side assert")]
    request = await submit_upload_job(resources)
    with pytest.raises(EngineLost):
        async with real_time_worker(resources, dying) as worker:
            await worker.task
    async with real_time_worker(resources, healthy):
        await until_ended(resources, request)
    assert healthy.admitted == [request.job_id]


async def test_health_starting_ready_draining(settings: Settings) -> None:
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}/health"
    engine = ScriptedEngine()
    engine.paused = True
    async with (
        provisioned(settings.model_copy(update={"worker_health_port": port})) as resources,
        aiohttp.ClientSession() as client,
        real_time_worker(resources, engine, loading_seconds=0.5) as worker,
    ):
        assert await _health(client, url) == (503, "starting")
        await eventually(lambda: _is(client, url, (200, "ready")))
        await submit_upload_job(resources)
        await until(lambda: engine.active)
        worker.stop.set()
        await asyncio.sleep(0.1)
        assert await _health(client, url) == (503, "draining")
        engine.paused = False


async def _is(client: aiohttp.ClientSession, url: str, wanted: tuple[int, str]) -> bool:
    return await _health(client, url) == wanted


async def _health(client: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    for _ in range(100):
        try:
            async with client.get(url) as answer:
                return answer.status, (await answer.json())["status"]
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.02)
    raise AssertionError("nobody listens")
