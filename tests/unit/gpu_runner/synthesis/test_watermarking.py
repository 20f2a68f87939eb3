"""A worker with `MARK=watermark`: stored and streamed audio have the watermark and are equal."""

import asyncio
import json
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from gpu_runner.engines import EngineLost, Reference, Utterance
from gpu_runner.engines.mock import MockEngine
from gpu_runner.synthesis.engine_loop import OnAudio, Speech
from gpu_runner.synthesis.watermarking import THREADS, Watermarking
from pipeline.audio.reference_audio import Samples, decode_wav
from pipeline.contract import layout
from pipeline.contract.records import Options, ReplyTo, Request, Source, Subscriber
from pipeline.domain import acceptance
from pipeline.marking.watermark import detect
from pipeline.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.fake_service import FakeConnections
from tests.support.fakes.resources import Fakes
from tests.support.job_requests import make_request, store_upload, submit_upload_job, success_of
from tests.support.speech import voice
from tests.support.waiting import until
from tests.support.workers import fake_time_worker

SPOKEN = voice(130, sample_rate=24_000).samples


@pytest.fixture
def settings() -> Settings:
    return Settings(tts_backend="mock", bucket="bucket", voices_bucket="voices", mark="watermark")


@pytest.fixture
async def connections() -> FakeConnections:
    return FakeConnections()


@pytest.fixture
async def streaming(fakes: Fakes, connections: FakeConnections) -> Fakes:
    return replace(fakes, resources=replace(fakes.resources, connections=connections))


async def accept(fakes: Fakes) -> Request:
    session_id = await store_upload(fakes.resources)
    subscriber = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="c"), stream=True)
    request = make_request(fakes.resources, Source(session_id=session_id), session_id)
    request = request.model_copy(update={"subscriber": subscriber})
    await acceptance.accept(fakes.resources, request)
    return request


def messages(connections: FakeConnections, kind: str) -> list[dict[str, Any]]:
    sent = [json.loads(body) for _, body in connections.posted]
    return [message["data"] for message in sent if message["type"] == kind]


def pcm(connections: FakeConnections) -> bytes:
    return b"".join(b64decode(data["audio"]) for data in messages(connections, "tts_audio"))


def stored(fakes: Fakes, request: Request) -> bytes:
    return fakes.bucket.objects[layout.preview(request.job_id)].body


async def test_stored_and_streamed_audio_is_marked(streaming: Fakes, connections: FakeConnections) -> None:
    request = await accept(streaming)
    async with fake_time_worker(streaming, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    recording = decode_wav(stored(streaming, request))
    assert detect(recording.samples, recording.sample_rate).is_marked
    assert pcm(connections) == stored(streaming, request)[44:]
    assert (await success_of(streaming.resources, request)).marks == ("watermark",)


async def test_redelivery_sends_same_marked_chunks(streaming: Fakes, connections: FakeConnections) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await accept(streaming)
    async with fake_time_worker(streaming, engine) as worker:
        await until(lambda: engine.active)
        engine.step_errors = [RuntimeError("out of memory")]
        await until(lambda: streaming.synthesis.switch.count("hide"))
        engine.paused = False
        await worker.advance_until_ended(request.job_id)
    assert [data["restarted"] for data in messages(connections, "progress")] == [False, True]
    assert {data["take"] for data in messages(connections, "tts_audio")} == {"mock-1+watermark"}
    assert pcm(connections) == stored(streaming, request)[44:]


async def test_retried_speech_is_marked_from_start(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.runaway_attempts = 1
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    outcome = await success_of(fakes.resources, request)
    assert outcome.finish_reason == "retried"
    assert outcome.preview is not None
    recording = decode_wav(stored(fakes, request))
    assert outcome.preview.duration_seconds == pytest.approx(recording.duration_seconds, abs=0.001)
    assert detect(recording.samples, recording.sample_rate).is_marked


def utterance() -> Utterance:
    prompt = MockEngine().make_prompt(Reference(voice(130), ""))
    return Utterance("a", "Some words of a text.", prompt, Options())


class Heard:
    """Records what is sent, and is an engine that fails or never ends after its first pieces."""

    def __init__(self, error: Exception | None = None) -> None:
        self.pieces: list[Samples] = []
        self.error = error

    async def synthesize(self, utterance: Utterance, on_audio: OnAudio) -> Speech:
        on_audio(SPOKEN)
        if self.error is None:
            await asyncio.Event().wait()
            raise AssertionError
        raise self.error


async def test_error_of_engine_is_raised() -> None:
    heard = Heard(EngineLost("gone"))
    with ThreadPoolExecutor(1) as thread, pytest.raises(EngineLost, match="gone"):
        await Watermarking(heard.synthesize, thread, 24_000).synthesize(utterance(), heard.pieces.append)


async def test_nothing_is_sent_after_cancellation() -> None:
    heard = Heard()
    with ThreadPoolExecutor(1) as thread:
        watermarking = Watermarking(heard.synthesize, thread, 24_000)
        waiting = asyncio.create_task(watermarking.synthesize(utterance(), heard.pieces.append))
        await until(lambda: heard.pieces)
        sent = len(heard.pieces)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await asyncio.sleep(0)
    assert len(heard.pieces) == sent
    assert np.concatenate(heard.pieces).size < SPOKEN.size


@pytest.mark.parametrize("cuts", [(9600, 33_600), (24_000, 33_600)])
async def test_mark_does_not_depend_on_time(cuts: tuple[int, ...]) -> None:
    async def synthesize(seconds: float, _: Utterance, on_audio: OnAudio) -> Speech:
        for part in np.split(SPOKEN, cuts):
            on_audio(part)
            if seconds:
                await asyncio.sleep(seconds)
        return Speech(SPOKEN, (), 0, "stop", may_retry=False)

    with ThreadPoolExecutor(1) as thread:
        at_once, slowly = [
            await Watermarking(partial(synthesize, seconds), thread, 24_000).synthesize(utterance(), lambda _: None)
            for seconds in (0, 0.05)
        ]
    assert np.array_equal(at_once.samples, slowly.samples)


class CountingThreads(ThreadPoolExecutor):
    """Counts its calls, and fails them if there is an error."""

    calls = 0
    error: Exception | None = None

    def submit(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.error:
            raise self.error
        return super().submit(*arguments, **named)


async def test_waiting_jobs_are_marked_together() -> None:
    voices = [voice(pitch, seconds=2, sample_rate=24_000).samples for pitch in range(100, 220, 10)]

    async def synthesize(utterance: Utterance, on_audio: OnAudio) -> Speech:
        samples = voices[int(utterance.job_id)]
        on_audio(samples)
        await asyncio.sleep(0.01)
        return Speech(samples, (), 0, "stop", may_retry=False)

    jobs = [replace(utterance(), job_id=str(number)) for number in range(len(voices))]
    with CountingThreads(THREADS) as threads:
        watermarking = Watermarking(synthesize, threads, 24_000)
        together = await asyncio.gather(*(watermarking.synthesize(job, lambda _: None) for job in jobs))
        calls = threads.calls
        threads.calls = 0
        alone = [await watermarking.synthesize(job, lambda _: None) for job in jobs]
    assert calls < threads.calls
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(together, alone, strict=True))


async def test_marking_continues_after_an_error() -> None:
    async def synthesize(_: Utterance, on_audio: OnAudio) -> Speech:
        on_audio(SPOKEN)
        await asyncio.sleep(0.01)
        return Speech(SPOKEN, (), 0, "stop", may_retry=False)

    with CountingThreads(1) as thread:
        watermarking = Watermarking(synthesize, thread, 24_000)
        thread.error = MemoryError()
        for _ in range(THREADS + 1):
            with pytest.raises(MemoryError):
                await watermarking.synthesize(utterance(), lambda _: None)
        thread.error = None
        speech = await watermarking.synthesize(utterance(), lambda _: None)
    assert detect(speech.samples, 24_000).is_marked
