"""Processing of a job: results, permanent failures and deadlines."""

import json
from datetime import timedelta

import pytest

from gpu_runner.engines.mock import MockPrompt, hum
from pipeline.audio.reference_audio import decode_wav
from pipeline.audio.wav import WAV
from pipeline.contract import layout
from pipeline.contract.records import Source
from pipeline.domain import acceptance, jobs
from pipeline.errors import InvalidInput
from tests.support.engines import ScriptedEngine
from tests.support.fakes.resources import Fakes
from tests.support.job_requests import (
    failure_of,
    make_request,
    store_upload,
    store_voice,
    submit_session_job,
    submit_upload_job,
    submit_voice_job,
    success_of,
)
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


async def embed(fakes: Fakes, voice_id: str, reference_id: str) -> str:
    request = make_request(fakes.resources, Source(voice_id=voice_id), reference_id, kind="embedding")
    await acceptance.accept(fakes.resources, request)
    return request.job_id


async def test_preview_uses_voice_of_reference(fakes: Fakes) -> None:
    low = await submit_upload_job(fakes.resources, pitch=100)
    high = await submit_upload_job(fakes.resources, pitch=250, text="Something longer than that, and higher.")
    engine = ScriptedEngine()
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(low.job_id, high.job_id)
    for request, pitch in ((low, 100), (high, 250)):
        stored = json.loads(fakes.bucket.objects[layout.reference(request).embedding].body)
        assert stored["f0"] == pytest.approx(pitch, rel=0.05)
        prompt = MockPrompt.model_validate(stored)
        spoken = decode_wav(fakes.bucket.objects[layout.preview(request.job_id)].body)
        assert spoken.samples == pytest.approx(hum(request.text, prompt), abs=1e-4)


async def test_embedding_job_stores_prompt(fakes: Fakes) -> None:
    reference_id = await store_voice(fakes.resources, "nova", pitch=200)
    job_id = await embed(fakes, "nova", reference_id)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(job_id)
    outcome = await jobs.read_outcome(fakes.resources, job_id)
    assert outcome is not None
    assert outcome.status == "succeeded"
    assert outcome.preview is None
    assert json.loads(fakes.voices.objects["audio/voices/nova/embedding.json"].body)["f0"] == pytest.approx(
        200, rel=0.05
    )


async def test_stored_embedding_is_kept(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    reference_id = await store_voice(fakes.resources, "nova")
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(await embed(fakes, "nova", reference_id))
        await worker.until_ended(await embed(fakes, "nova", reference_id))
    assert engine.prompts_made == 1
    assert fakes.voices.switch.count("put") == 3  # two of the fixture's, one of the worker's


async def test_invalid_text_fails_only_its_job(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.admit_errors["refused"] = InvalidInput("The text is odd.", field="text")
    engine.errors["failing"] = InvalidInput("The text is odder.", field="text")
    bad = [await submit_upload_job(fakes.resources, text=text) for text in ("refused", "failing")]
    good = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(good.job_id, *(request.job_id for request in bad))
    outcomes = [await failure_of(fakes.resources, request) for request in bad]
    assert [(one.code, one.message, one.field) for one in outcomes] == [
        ("invalid_input", "The text is odd.", "text"),
        ("invalid_input", "The text is odder.", "text"),
    ]
    assert await success_of(fakes.resources, good)
    assert fakes.synthesis.bodies == []


async def test_reference_without_audio(fakes: Fakes) -> None:
    session_id = await store_upload(fakes.resources)
    await fakes.bucket.put(layout.session(session_id).audio, b"not audio", WAV)
    request = await submit_session_job(fakes.resources, session_id)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    assert (await failure_of(fakes.resources, request)).code == "invalid_audio"


async def test_expired_session(fakes: Fakes) -> None:
    session_id = fakes.resources.new_id()
    fakes.time.now += timedelta(hours=12)
    request = await submit_session_job(fakes.resources, session_id)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    outcome = await failure_of(fakes.resources, request)
    assert (outcome.code, outcome.field) == ("expired", "session_id")


async def test_session_without_recording(fakes: Fakes) -> None:
    request = await submit_session_job(fakes.resources, fakes.resources.new_id())
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    outcome = await failure_of(fakes.resources, request)
    assert (outcome.code, outcome.field) == ("not_found", "session_id")


async def test_deleted_voice(fakes: Fakes) -> None:
    request = await submit_voice_job(fakes.resources, "nova", fakes.resources.new_id())
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    outcome = await failure_of(fakes.resources, request)
    assert (outcome.code, outcome.field) == ("not_found", "voice_id")


async def test_job_past_deadline_not_started(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    request = await submit_upload_job(fakes.resources)
    fakes.time.now += timedelta(hours=1)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    assert (await failure_of(fakes.resources, request)).code == "deadline_exceeded"
    assert engine.admitted == []


async def test_job_ending_past_deadline_fails(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        await fakes.time.advance(3600)
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert (await failure_of(fakes.resources, request)).code == "deadline_exceeded"
    assert layout.preview(request.job_id) not in fakes.bucket.objects


async def test_job_cancelled_at_deadline(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    fakes.time.now += timedelta(hours=1) - timedelta(seconds=0.3)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
        await until(lambda: engine.cancelled == [request.job_id])
    assert (await failure_of(fakes.resources, request)).code == "deadline_exceeded"
    assert engine.active == []


async def test_runaway_is_retried(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.runaway_attempts = 1
    request = await submit_upload_job(fakes.resources, pitch=100)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    outcome = await success_of(fakes.resources, request)
    assert outcome.finish_reason == "retried"
    assert outcome.timings is not None
    assert outcome.timings.synthesis_seconds == 1.0  # of both attempts
    assert engine.admitted == [request.job_id] * 2
    prompt = MockPrompt.model_validate_json(fakes.bucket.objects[layout.reference(request).embedding].body)
    stored = decode_wav(fakes.bucket.objects[layout.preview(request.job_id)].body)
    assert stored.samples == pytest.approx(hum(request.text + "!", prompt), abs=1e-4)


async def test_runaway_is_retried_twice_at_most(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.runaway_attempts = 5
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    assert (await success_of(fakes.resources, request)).finish_reason == "length"
    assert engine.admitted == [request.job_id] * 3
