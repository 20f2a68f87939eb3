"""Publication of a result: outcome, timings, and audio of an earlier attempt."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipeline.audio.wav import WAV, length_of_wav
from pipeline.contract import layout
from pipeline.errors import Unavailable
from tests.support.engines import ScriptedEngine
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.resources import Fakes
from tests.support.job_requests import (
    submit_upload_job,
    success_of,
)
from tests.support.speech import voice_wav
from tests.support.workers import fake_time_worker


async def test_outcome_has_preview_and_timings(fakes: Fakes) -> None:
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


async def test_stored_audio_of_earlier_attempt(fakes: Fakes) -> None:
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


class FailingOutcomeBucket(FakeBucket):
    """Fails so many writes of an outcome."""

    failures = 0

    async def put_once(self, key: str, body: bytes, content_type: str, **more: Any) -> str | None:
        """See `Bucket.put_once`."""
        if key.endswith(layout.OUTCOME_FILE) and self.failures:
            self.failures -= 1
            raise Unavailable("no outcome can be written")
        return await super().put_once(key, body, content_type, **more)


@pytest.mark.parametrize(("failures", "deliveries"), [(1, 1), (5, 2)])
async def test_report_survives_failed_outcome_write(fakes: Fakes, failures: int, deliveries: int) -> None:
    bucket = FailingOutcomeBucket(fakes.time)
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
