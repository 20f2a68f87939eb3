"""Voice prompts: created once, stored, cached, and replaced."""

import json

import pytest

from gpu_runner.engines.mock import MockPrompt
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.fakes.resources import Fakes, make_fakes
from tests.support.job_requests import (
    TEXT,
    store_upload,
    store_voice,
    submit_session_job,
    submit_upload_job,
    submit_voice_job,
)
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


async def test_concurrent_jobs_share_prompt(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    session_id = await store_upload(fakes.resources)
    requests = [await submit_session_job(fakes.resources, session_id) for _ in range(5)]
    fakes.bucket.switch.calls.clear()
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(*(request.job_id for request in requests))
    assert engine.prompts_made == 1
    assert fakes.bucket.switch.count("put") == 1


async def test_next_worker_restores_prompt(fakes: Fakes) -> None:
    first, second = ScriptedEngine(), ScriptedEngine()
    session_id = await store_upload(fakes.resources)
    for engine in (first, second):
        request = await submit_session_job(fakes.resources, session_id)
        async with fake_time_worker(fakes, engine) as worker:
            await worker.until_ended(request.job_id)
    assert (first.prompts_made, second.prompts_made, second.prompts_restored) == (1, 0, 1)


@pytest.mark.parametrize("stored", [b"rubbish", b'{"format":1,"model":"another","f0":1,"level":1}'])
async def test_unusable_prompt_is_replaced(fakes: Fakes, stored: bytes) -> None:
    engine = ScriptedEngine()
    session_id = await store_upload(fakes.resources, pitch=180)
    key = layout.session(session_id).embedding
    await fakes.bucket.put(key, stored, JSON)
    request = await submit_session_job(fakes.resources, session_id)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    assert engine.prompts_made == 1
    assert json.loads(fakes.bucket.objects[key].body)["f0"] == pytest.approx(180, rel=0.05)


async def test_cache_size_is_limited(settings: Settings) -> None:
    fakes = make_fakes(settings.model_copy(update={"prompt_cache_size": 2}))
    engine = ScriptedEngine()
    sessions = [await store_upload(fakes.resources) for _ in range(3)]
    async with fake_time_worker(fakes, engine) as worker:
        for session_id in (*sessions, sessions[2], sessions[0]):
            request = await submit_session_job(fakes.resources, session_id)
            await worker.until_ended(request.job_id)
    # The third was still known; the first had to be read again.
    assert (engine.prompts_made, engine.prompts_restored) == (3, 1)


async def test_replaced_voice_gets_new_prompt(fakes: Fakes) -> None:
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        for pitch in (100, 250):
            reference_id = await store_voice(fakes.resources, "nova", pitch=pitch)
            request = await submit_voice_job(fakes.resources, "nova", reference_id)
            await worker.until_ended(request.job_id)
            stored = json.loads(fakes.voices.objects["audio/voices/nova/embedding.json"].body)
            assert stored["f0"] == pytest.approx(pitch, rel=0.05)


async def test_late_prompt_not_stored(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    reference_id = await store_voice(fakes.resources, "nova", pitch=100)
    request = await submit_voice_job(fakes.resources, "nova", reference_id)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        await store_voice(fakes.resources, "nova", pitch=250)
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert "audio/voices/nova/embedding.json" not in fakes.voices.objects


async def test_redelivered_job_restores_prompt(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.errors[TEXT] = RuntimeError("no luck")
    request = await submit_upload_job(fakes.resources)
    prompt = MockPrompt(f0=100.0, level=0.1)
    await fakes.bucket.put(layout.reference(request).embedding, prompt.to_json(), JSON)
    await fakes.synthesis.receive(1, wait_seconds=0)
    await fakes.time.advance(60)
    async with fake_time_worker(fakes, engine):
        await until(lambda: engine.admitted)
    assert (engine.prompts_made, engine.prompts_restored) == (0, 1)
