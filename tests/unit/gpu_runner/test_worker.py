"""The worker among fakes: every end that a job can come to, and every way it can be tried again."""

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gpu_runner.engines import EngineLost
from gpu_runner.engines.mock import MockPrompt, hum
from gpu_runner.worker import run_worker
from pipeline.audio.reference_audio import decode_wav
from pipeline.audio.wav import WAV, length_of_wav
from pipeline.clients.queues import Message
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import QueueMessage, parse_queue_message
from pipeline.contract.records import Source
from pipeline.domain import jobs
from pipeline.errors import InvalidInput, Unavailable
from pipeline.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.fakes import FakeBucket, FakeQueue, Fakes, Switch, make_fakes, settle
from tests.support.job_requests import (
    TEXT,
    TRANSCRIPTION,
    failure_of,
    make_request,
    store_upload,
    store_voice,
    submit_session_job,
    submit_upload_job,
    submit_voice_job,
    success_of,
)
from tests.support.speech import voice_wav
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


async def embed(fakes: Fakes, voice_id: str, reference_id: str) -> str:
    request = make_request(fakes.resources, Source(voice_id=voice_id), reference_id, kind="embedding")
    await jobs.accept(fakes.resources, request)
    return request.job_id


# how a job succeeds


async def test_a_preview_ends_with_its_audio_and_what_is_to_know_of_it(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.warnings = ("a bit short",)
    request = await submit_upload_job(fakes.resources)
    fakes.time.now += timedelta(seconds=3)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    outcome = await success_of(fakes.resources, request)
    assert outcome.preview is not None
    assert outcome.timings is not None
    wav = fakes.bucket.objects[layout.preview(request.job_id)]
    assert wav.content_type == WAV
    assert (outcome.preview.sample_rate, outcome.preview.duration_seconds) == pytest.approx(
        length_of_wav(wav.body), abs=0.001
    )
    assert outcome.preview.expires_at == outcome.completed_at + timedelta(minutes=20)
    assert outcome.timings.queued_seconds == pytest.approx(2.5, abs=0.1)
    assert outcome.timings.synthesis_seconds == 0.5
    assert outcome.timings.first_audio_seconds == pytest.approx(3, abs=0.1)
    assert outcome.timings.real_time_factor == pytest.approx(0.5 / outcome.preview.duration_seconds, rel=0.01)
    assert outcome.warnings == ("a bit short",)
    assert fakes.synthesis.bodies == []


async def test_it_says_the_text_in_the_voice_of_the_reference(fakes: Fakes) -> None:
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


async def test_an_embedding_is_made_and_stored(fakes: Fakes) -> None:
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


async def test_an_embedding_that_is_there_is_left_alone(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    reference_id = await store_voice(fakes.resources, "nova")
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(await embed(fakes, "nova", reference_id))
        await worker.until_ended(await embed(fakes, "nova", reference_id))
    assert engine.prompts_made == 1
    assert fakes.voices.switch.count("put") == 3  # two of the fixture's, one of the worker's


# requests per preview


async def asked_for(fakes: Fakes, engine: ScriptedEngine, order_job_id: str) -> dict[str, list[str]]:
    """Return the calls that a worker with an empty cache makes for one job."""
    for fake in (fakes.bucket, fakes.voices, fakes.synthesis):
        fake.switch.calls.clear()
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(order_job_id)
        await fakes.time.advance(1)
        return {
            "bucket": _but_pings(fakes.bucket.switch),
            "voices": _but_pings(fakes.voices.switch),
            "queue": _but_pings(fakes.synthesis.switch),
        }


def _but_pings(switch: Switch) -> list[str]:
    """Return the calls; a worker pings each dependency once when it starts."""
    return sorted(call for call in switch.calls if call != "ping")


# The second receive is the poll for the next job.
QUEUE = ["delete", "receive", "receive"]


async def test_what_a_preview_of_a_new_reference_asks_for(fakes: Fakes) -> None:
    request = await submit_upload_job(fakes.resources)
    assert await asked_for(fakes, ScriptedEngine(), request.job_id) == {
        "bucket": ["put", "put_once", "put_once", "read"],
        "voices": [],
        "queue": QUEUE,
    }


async def test_what_a_preview_with_a_stored_prompt_asks_for(fakes: Fakes) -> None:
    session_id = await store_upload(fakes.resources)
    request = await submit_session_job(fakes.resources, session_id)
    prompt = MockPrompt(f0=100.0, level=0.1)
    await fakes.bucket.put(layout.session(session_id).embedding, prompt.to_json(), JSON)
    assert await asked_for(fakes, ScriptedEngine(), request.job_id) == {
        "bucket": ["put_once", "put_once", "read"],
        "voices": [],
        "queue": QUEUE,
    }


async def test_what_a_preview_without_a_stored_prompt_asks_for(fakes: Fakes) -> None:
    request = await submit_session_job(fakes.resources, await store_upload(fakes.resources))
    assert await asked_for(fakes, ScriptedEngine(), request.job_id) == {
        "bucket": ["put", "put_once", "put_once", "read", "read", "read"],
        "voices": [],
        "queue": QUEUE,
    }


async def test_a_prompt_in_memory_is_not_asked_for(fakes: Fakes) -> None:
    session_id = await store_upload(fakes.resources)
    engine = ScriptedEngine()
    async with fake_time_worker(fakes, engine) as worker:
        first = await submit_session_job(fakes.resources, session_id)
        await worker.until_ended(first.job_id)
        fakes.bucket.switch.calls.clear()
        second = await submit_session_job(fakes.resources, session_id)
        await worker.until_ended(second.job_id)
        asked = sorted(fakes.bucket.switch.calls)
    assert asked == ["put", "put_once", "put_once"]  # the put is the order's own
    assert (engine.prompts_made, engine.prompts_restored) == (1, 0)


async def test_ten_jobs_are_deleted_at_once(fakes: Fakes) -> None:
    requests = [await submit_upload_job(fakes.resources) for _ in range(10)]
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(*(request.job_id for request in requests))
        await until(lambda: fakes.synthesis.bodies == [])
        assert fakes.synthesis.switch.count("delete") == 1


# prompts


async def test_a_prompt_is_made_once_for_all_that_want_it_at_the_same_time(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    session_id = await store_upload(fakes.resources)
    requests = [await submit_session_job(fakes.resources, session_id) for _ in range(5)]
    fakes.bucket.switch.calls.clear()
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(*(request.job_id for request in requests))
    assert engine.prompts_made == 1
    assert fakes.bucket.switch.count("put") == 1


async def test_a_stored_prompt_serves_the_next_worker(fakes: Fakes) -> None:
    first, second = ScriptedEngine(), ScriptedEngine()
    session_id = await store_upload(fakes.resources)
    for engine in (first, second):
        request = await submit_session_job(fakes.resources, session_id)
        async with fake_time_worker(fakes, engine) as worker:
            await worker.until_ended(request.job_id)
    assert (first.prompts_made, second.prompts_made, second.prompts_restored) == (1, 0, 1)


@pytest.mark.parametrize("stored", [b"rubbish", b'{"format":1,"model":"another","f0":1,"level":1}'])
async def test_a_prompt_that_cannot_be_used_is_made_again_and_replaced(fakes: Fakes, stored: bytes) -> None:
    engine = ScriptedEngine()
    session_id = await store_upload(fakes.resources, pitch=180)
    key = layout.session(session_id).embedding
    await fakes.bucket.put(key, stored, JSON)
    request = await submit_session_job(fakes.resources, session_id)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    assert engine.prompts_made == 1
    assert json.loads(fakes.bucket.objects[key].body)["f0"] == pytest.approx(180, rel=0.05)


async def test_the_memory_for_prompts_is_bounded(settings: Settings) -> None:
    fakes = make_fakes(settings.model_copy(update={"prompt_cache_size": 2}))
    engine = ScriptedEngine()
    sessions = [await store_upload(fakes.resources) for _ in range(3)]
    async with fake_time_worker(fakes, engine) as worker:
        for session_id in (*sessions, sessions[2], sessions[0]):
            request = await submit_session_job(fakes.resources, session_id)
            await worker.until_ended(request.job_id)
    # The third was still known; the first had to be read again.
    assert (engine.prompts_made, engine.prompts_restored) == (3, 1)


async def test_a_voice_saved_anew_under_its_id_speaks_with_its_own_recording(fakes: Fakes) -> None:
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        for pitch in (100, 250):
            reference_id = await store_voice(fakes.resources, "nova", pitch=pitch)
            request = await submit_voice_job(fakes.resources, "nova", reference_id)
            await worker.until_ended(request.job_id)
            stored = json.loads(fakes.voices.objects["audio/voices/nova/embedding.json"].body)
            assert stored["f0"] == pytest.approx(pitch, rel=0.05)


async def test_a_late_prompt_is_not_stored_with_the_voice_that_took_its_place(fakes: Fakes) -> None:
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


# how a job fails for good


async def test_a_bad_text_fails_alone_and_at_once(fakes: Fakes) -> None:
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


async def test_a_reference_that_is_no_audio_fails(fakes: Fakes) -> None:
    session_id = await store_upload(fakes.resources)
    await fakes.bucket.put(layout.session(session_id).audio, b"not audio", WAV)
    request = await submit_session_job(fakes.resources, session_id)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    assert (await failure_of(fakes.resources, request)).code == "invalid_audio"


async def test_a_session_that_has_expired_is_said_to_have(fakes: Fakes) -> None:
    session_id = fakes.resources.new_id()
    fakes.time.now += timedelta(hours=12)
    request = await submit_session_job(fakes.resources, session_id)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    outcome = await failure_of(fakes.resources, request)
    assert (outcome.code, outcome.field) == ("expired", "session_id")


async def test_a_session_without_a_recording_is_not_found(fakes: Fakes) -> None:
    request = await submit_session_job(fakes.resources, fakes.resources.new_id())
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    outcome = await failure_of(fakes.resources, request)
    assert (outcome.code, outcome.field) == ("not_found", "session_id")


async def test_a_voice_that_was_deleted_is_not_found(fakes: Fakes) -> None:
    request = await submit_voice_job(fakes.resources, "nova", fakes.resources.new_id())
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    outcome = await failure_of(fakes.resources, request)
    assert (outcome.code, outcome.field) == ("not_found", "voice_id")


async def test_a_job_past_its_deadline_is_not_begun(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    request = await submit_upload_job(fakes.resources)
    fakes.time.now += timedelta(hours=1)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    assert (await failure_of(fakes.resources, request)).code == "deadline_exceeded"
    assert engine.admitted == []


async def test_a_job_that_ends_past_its_deadline_has_failed(fakes: Fakes) -> None:
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


async def test_a_job_that_reaches_its_deadline_is_given_up(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    fakes.time.now += timedelta(hours=1) - timedelta(seconds=0.3)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
        await until(lambda: engine.cancelled == [request.job_id])
    assert (await failure_of(fakes.resources, request)).code == "deadline_exceeded"
    assert engine.active == []


async def test_what_is_no_job_is_deleted(fakes: Fakes) -> None:
    for body in (
        "",
        "not json",
        "[]",
        '{"job_id": "../../etc"}',
        '{"job_id": 1}',
        QueueMessage(job_id=fakes.resources.new_id()).model_dump_json(),
    ):
        await fakes.synthesis.send(body)
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.synthesis.switch.count("receive") > 1)
        await settle()
        await fakes.time.advance(1)
        await until(lambda: fakes.synthesis.bodies == [])
    assert list(fakes.bucket.objects) == []


# how a job is tried again


def _handed_back(fakes: Fakes, *, times: int) -> bool:
    return fakes.synthesis.switch.count("hide") == times


async def test_a_failing_engine_is_tried_again_after_growing_pauses(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.step_errors = [RuntimeError("out of memory") for _ in range(3)]
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        for tries, pause in ((1, 1), (2, 2), (3, 4)):
            await until(partial(_handed_back, fakes, times=tries))
            await fakes.time.advance(pause - 0.1)
            assert len(engine.admitted) == tries
            await fakes.time.advance(0.1)
        await worker.until_ended(request.job_id)
    await success_of(fakes.resources, request)


async def test_all_that_a_failing_step_lost_is_tried_again(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    requests = [await submit_upload_job(fakes.resources) for _ in range(3)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 3)
        engine.step_errors = [RuntimeError("out of memory")]
        await until(lambda: not engine.active)
        engine.paused = False
        await worker.advance_until_ended(*(request.job_id for request in requests))
    assert sorted(engine.admitted) == sorted(2 * [request.job_id for request in requests])


async def test_what_fails_every_time_becomes_a_dead_letter(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.errors[TEXT] = RuntimeError("no such luck")
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine):
        while not fakes.synthesis_dead_letters.bodies:
            await fakes.time.advance(1)
            await asyncio.sleep(0.002)
    assert len(engine.admitted) == fakes.resources.settings.max_receives
    (dead,) = fakes.synthesis_dead_letters.bodies
    message = parse_queue_message(dead)
    assert message is not None
    assert message.job_id == request.job_id
    assert await jobs.read_outcome(fakes.resources, request.job_id) is None


async def test_a_request_of_another_version_is_left_to_others(fakes: Fakes) -> None:
    job_id = fakes.resources.new_id()
    await fakes.bucket.put(layout.request(job_id), json.dumps({"job_id": job_id, "text": TEXT}).encode(), JSON)
    await jobs.enqueue(fakes.resources, job_id)
    with capture_logs() as logs:
        async with fake_time_worker(fakes, ScriptedEngine()):
            await until(lambda: fakes.synthesis.switch.count("hide") == 1)
    assert len(fakes.synthesis.bodies) == 1
    assert TEXT not in str([str(entry.get("exc_info", "")) + str(entry) for entry in logs])


async def test_a_message_that_comes_again_after_the_end_is_only_deleted(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    request = await submit_upload_job(fakes.resources)
    await jobs.write_outcome(fakes.resources, jobs.failure(request, InvalidInput("no"), fakes.time.now))
    await fakes.synthesis.receive(1, wait_seconds=0)
    await fakes.time.advance(60)
    async with fake_time_worker(fakes, engine):
        await until(lambda: fakes.bucket.switch.count("read"))
        await settle()
        await fakes.time.advance(1)
        await until(lambda: fakes.synthesis.bodies == [])
    assert engine.admitted == []


async def test_a_job_that_comes_twice_while_in_hand_is_spoken_once(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        await jobs.enqueue(fakes.resources, request.job_id)
        await until(lambda: fakes.synthesis.visible == [])
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert engine.admitted == [request.job_id]
    assert fakes.synthesis.bodies == []


async def test_audio_of_an_earlier_try_is_described_as_it_is(fakes: Fakes) -> None:
    request = await submit_upload_job(fakes.resources)
    body = voice_wav(100, seconds=3)
    await fakes.bucket.put(layout.preview(request.job_id), body, WAV)
    written = fakes.time.now
    fakes.time.now += timedelta(minutes=2)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    outcome = await success_of(fakes.resources, request)
    assert outcome.preview is not None
    assert (outcome.completed_at, outcome.timings) == (written, None)
    assert (outcome.preview.sample_rate, outcome.preview.duration_seconds) == (16_000, 3.0)
    assert outcome.preview.expires_at == written + timedelta(minutes=20)
    assert fakes.bucket.objects[layout.preview(request.job_id)].body == body


class FailsToConclude(FakeBucket):
    """Fails so many writes of an outcome."""

    failures = 0

    async def put_once(self, key: str, body: bytes, content_type: str, **more: Any) -> str | None:
        """See `Bucket.put_once`."""
        if key.endswith(layout.OUTCOME_FILE) and self.failures:
            self.failures -= 1
            raise Unavailable("no outcome can be written")
        return await super().put_once(key, body, content_type, **more)


@pytest.mark.parametrize(("failures", "deliveries"), [(1, 1), (5, 2)])
async def test_timings_and_warnings_survive_a_failed_write_of_the_outcome(
    fakes: Fakes, failures: int, deliveries: int
) -> None:
    bucket = FailsToConclude(fakes.time)
    bucket.failures = failures
    fakes = replace(fakes, bucket=bucket, resources=replace(fakes.resources, bucket=bucket))
    engine = ScriptedEngine()
    engine.warnings = ("a bit short", "too long to be kept with the audio: " + "ä" * 2000)
    request = await submit_upload_job(fakes.resources)
    fakes.time.now += timedelta(seconds=3)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.advance_until_ended(request.job_id)
    outcome = await success_of(fakes.resources, request)
    assert outcome.timings is not None
    assert outcome.timings.queued_seconds >= 2.5
    assert outcome.timings.synthesis_seconds == 0.5
    assert outcome.warnings == ("a bit short",)
    assert len(engine.admitted) == 1
    assert (fakes.synthesis.switch.count("hide") > 0) == (deliveries > 1)


async def test_a_redelivered_job_uses_the_prompt_that_the_first_try_stored(fakes: Fakes) -> None:
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


# outages


async def test_a_worker_outlives_an_outage_of_the_queue(fakes: Fakes) -> None:
    fakes.synthesis.switch.is_up = False
    with capture_logs() as logs:
        async with fake_time_worker(fakes, ScriptedEngine()) as worker:
            await until(lambda: fakes.synthesis.switch.count("receive"))
            await fakes.time.advance(600)
            tries = fakes.synthesis.switch.count("receive")
            fakes.synthesis.switch.is_up = True
            request = await submit_upload_job(fakes.resources)
            await fakes.time.advance(30)
            await worker.until_ended(request.job_id)
    assert 10 < tries < 40
    assert [entry["dependency"] for entry in logs if entry["event"] == "dependency unavailable"] == ["queue"]
    assert [entry["dependency"] for entry in logs if entry["event"] == "dependency available again"] == ["queue"]


async def test_an_outage_of_the_storage_costs_no_job_its_tries(fakes: Fakes) -> None:
    requests = [await submit_upload_job(fakes.resources) for _ in range(3)]
    with capture_logs() as logs:
        async with fake_time_worker(fakes, ScriptedEngine()) as worker:
            fakes.bucket.switch.is_up = False
            await until(lambda: fakes.synthesis.switch.count("hide"))
            await fakes.time.advance(600)
            fakes.bucket.switch.is_up = True
            await fakes.time.advance(30)
            await worker.until_ended(*(request.job_id for request in requests))
    assert fakes.synthesis_dead_letters.bodies == []
    assert [entry["dependency"] for entry in logs if entry["event"] == "dependency unavailable"] == ["storage"]


async def test_what_was_spoken_outlives_a_short_outage_of_the_storage(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        fakes.bucket.switch.is_up = False
        engine.paused = False
        await until(lambda: fakes.bucket.switch.count("put_once"))
        await settle()
        await fakes.time.advance(2)
        fakes.bucket.switch.is_up = True
        await fakes.time.advance(10)
        await worker.until_ended(request.job_id)
    assert engine.admitted == [request.job_id]


# signs of life


async def test_a_slow_job_stays_hidden_for_as_long_as_it_takes(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        for _ in range(10):
            await fakes.time.advance(30)
            assert fakes.synthesis.visible == []
        engine.paused = False
        await worker.until_ended(request.job_id)
        assert fakes.synthesis.switch.count("hide") == 15  # 300 s, one for every 20 s
    assert engine.admitted == [request.job_id]


async def test_a_missed_sign_of_life_is_made_up_for(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        fakes.synthesis.switch.is_up = False
        await fakes.time.advance(50)
        fakes.synthesis.switch.is_up = True
        await fakes.time.advance(2)
        await fakes.time.advance(15)
        assert fakes.synthesis.visible == []
        engine.paused = False
        await worker.until_ended(request.job_id)


# how a worker stops


async def test_it_finishes_what_is_spoken_and_hands_back_what_waits(fakes: Fakes) -> None:
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


async def test_what_is_not_finished_in_time_is_handed_back(fakes: Fakes) -> None:
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


async def test_a_message_that_comes_while_stopping_is_handed_back(fakes: Fakes) -> None:
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await until(lambda: fakes.synthesis.switch.count("receive"))
        worker.stop.set()
        await settle()
        request = await submit_upload_job(fakes.resources)
        await until(lambda: worker.task.done())
    assert len(fakes.synthesis.visible) == 1
    assert await jobs.read_outcome(fakes.resources, request.job_id) is None


async def test_a_lost_engine_ends_the_worker_and_hands_everything_back(fakes: Fakes) -> None:
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


async def test_a_dead_engine_thread_ends_the_worker_and_returns_every_job(fakes: Fakes) -> None:
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


async def test_it_stops_while_the_engine_is_still_loading(fakes: Fakes) -> None:
    loading = threading.Event()

    def load() -> ScriptedEngine:
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


# what it takes on


async def test_it_takes_no_more_than_it_has_room_for(settings: Settings) -> None:
    fakes = make_fakes(settings.model_copy(update={"worker_batch_size": 3}))
    engine = ScriptedEngine(capacity=2)
    engine.paused = True
    requests = [await submit_upload_job(fakes.resources) for _ in range(7)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 2 and len(fakes.synthesis.visible) == 4)
        await fakes.time.advance(50)
        assert len(fakes.synthesis.visible) == 4
        engine.paused = False
        await worker.until_ended(*(request.job_id for request in requests))


class CountsPolls(FakeQueue):
    """Remembers how many polls were under way at the same time."""

    polling = most_at_once = 0

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        """See `Queue.receive`."""
        self.polling += 1
        self.most_at_once = max(self.most_at_once, self.polling)
        try:
            return await super().receive(limit, wait_seconds=wait_seconds)
        finally:
            self.polling -= 1


async def test_a_backlog_is_fetched_by_several_polls_and_an_empty_queue_by_one(
    settings: Settings,
) -> None:
    fakes = make_fakes(settings.model_copy(update={"worker_batch_size": 64}))
    queue = CountsPolls(fakes.time)
    fakes = replace(fakes, synthesis=queue, resources=replace(fakes.resources, synthesis=queue))
    engine = ScriptedEngine(capacity=64)
    engine.paused = True
    session_id = await store_upload(fakes.resources)
    requests = [await submit_session_job(fakes.resources, session_id) for _ in range(60)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 60)
        assert queue.switch.count("receive") <= 9
        assert queue.most_at_once > 3
        queue.most_at_once = 0
        engine.paused = False
        await worker.until_ended(*(request.job_id for request in requests))
        await fakes.time.advance(60)
        assert queue.most_at_once == 1


async def test_the_next_jobs_are_fetched_while_others_are_spoken(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    async with fake_time_worker(fakes, engine) as worker:
        first = await submit_upload_job(fakes.resources)
        await until(lambda: engine.active == [first.job_id])
        second = await submit_upload_job(fakes.resources)
        await until(lambda: engine.active == [first.job_id, second.job_id])
        engine.paused = False
        await worker.until_ended(first.job_id, second.job_id)


# logs


async def test_each_job_logs_its_end_once_under_its_ids_and_says_nothing_of_what_was_said(fakes: Fakes) -> None:
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
                await jobs.accept(fakes.resources, request)
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
