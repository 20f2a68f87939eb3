"""Publication of a result: outcome, timings, and audio of an earlier attempt."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipeline.access.audit.entries import sha256
from pipeline.audio.reference_audio import decode_wav
from pipeline.audio.wav import WAV, length_of_wav
from pipeline.contract import layout
from pipeline.contract.messages.completions import parse_completion
from pipeline.contract.records import ReplyTo, Source, Subscriber
from pipeline.domain import acceptance
from pipeline.errors import Unavailable
from pipeline.marking.fingerprint import excerpts
from pipeline.provenance import fingerprints
from pipeline.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import settle
from tests.support.fakes.resources import Fakes, NoConnections
from tests.support.job_requests import make_request, store_upload, submit_upload_job, success_of
from tests.support.speech import voice_wav
from tests.support.waiting import until
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
    assert outcome.audio_sha256 == sha256(wav.body)
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


class FingerprintBucket(FakeBucket):
    """Fails so many writes of a fingerprint, or deletes the job during one."""

    failures = 0
    deletes_job = False

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        """See `Bucket.put`."""
        if key.startswith(layout.FINGERPRINTS):
            if self.failures:
                self.failures -= 1
                raise Unavailable("no fingerprint can be written")
            if self.deletes_job:
                self._time.now += timedelta(minutes=1)
                await self.delete([key for key in self.objects if key.startswith((layout.JOBS, layout.PREVIEWS))])
        await super().put(key, body, content_type)


@pytest.fixture
async def bucket(fakes: Fakes) -> FingerprintBucket:
    return FingerprintBucket(fakes.time)


@pytest.fixture
async def marking(fakes: Fakes, settings: Settings, bucket: FingerprintBucket) -> Fakes:
    settings = settings.model_copy(update={"mark": "c2pa"})
    return replace(fakes, bucket=bucket, resources=replace(fakes.resources, bucket=bucket, settings=settings))


TEXT = "Long enough to last for some seconds. " * 3


@pytest.mark.parametrize("failures", [0, 1, 5])
async def test_fingerprint_is_stored_after_outcome(
    marking: Fakes, bucket: FingerprintBucket, failures: int
) -> None:
    bucket.failures = failures
    request = await submit_upload_job(marking.resources, text=TEXT)
    async with fake_time_worker(marking, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
        async with asyncio.timeout(20):
            while marking.synthesis.bodies:
                await marking.time.advance(0.5)
                await asyncio.sleep(0.002)
    keys = list(bucket.objects)
    (fingerprint,) = (key for key in keys if key.startswith(layout.FINGERPRINTS))
    assert keys.index(fingerprint) > keys.index(layout.outcome(request.job_id))
    heard = decode_wav(bucket.objects[layout.preview(request.job_id)].body)
    words = excerpts(heard.samples, heard.sample_rate)
    assert await fingerprints.find_job(marking.resources, None, words) == request.job_id
    assert (marking.synthesis.switch.count("hide") > 0) == (failures == 5)


async def test_no_fingerprint_of_job_that_is_deleted_meanwhile(marking: Fakes, bucket: FingerprintBucket) -> None:
    bucket.deletes_job = True
    await submit_upload_job(marking.resources, text=TEXT)
    async with fake_time_worker(marking, ScriptedEngine()):
        await until(lambda: bucket.switch.count("delete") == 2)
    assert not [key for key in bucket.objects if key.startswith(layout.FINGERPRINTS)]


class StuckDeletionsBucket(FakeBucket):
    """Never finishes a deletion."""

    async def delete(self, keys: Iterable[str]) -> None:
        """See `Bucket.delete`."""
        await asyncio.Event().wait()


class RecordedPosts(NoConnections):
    """Records the completions that were sent."""

    def __init__(self) -> None:
        self.posts: list[str] = []

    async def post(self, to: ReplyTo, body: bytes) -> None:
        completion = parse_completion(body)
        assert completion is not None
        self.posts.append(completion.outcome.job_id)


async def test_completion_does_not_wait_for_release(fakes: Fakes) -> None:
    """The client is answered while the job's marker is deleted, which takes a request to the storage."""
    bucket, connections = StuckDeletionsBucket(fakes.time), RecordedPosts()
    fakes = replace(
        fakes, bucket=bucket, resources=replace(fakes.resources, bucket=bucket, connections=connections)
    )
    session_id = await store_upload(fakes.resources)
    subscriber = Subscriber(reply_to=ReplyTo(endpoint="http://127.0.0.1", connection_id="c"), interface="http")
    source = Source(session_id=session_id, owner="alice")
    request = make_request(fakes.resources, source, session_id).model_copy(update={"subscriber": subscriber})
    await acceptance.accept(fakes.resources, request)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
        await settle()
        assert connections.posts == [request.job_id]
