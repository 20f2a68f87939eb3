"""Streamed previews: order, retries of the worker, failures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from functions.http.application import create_app, serve_with
from functions.http.previews.streaming import StreamAborted
from functions.previews.completion_waiters import CompletionWaiters
from pipeline.audio.reference_audio import encode_wav
from pipeline.audio.wav import streamed_wav_header
from pipeline.contract import layout, retention
from pipeline.contract.messages.completions import Completion
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.messages.stream_messages import AudioChunk, StreamStarted, encode_pcm, stream_message
from pipeline.contract.records import Preview, Request, Succeeded, outcome_fields
from pipeline.domain import jobs
from pipeline.errors import SynthesisFailed
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.speech import voice

RATE = 24_000
WAV = encode_wav(voice(150.0, seconds=1.0, sample_rate=RATE))
SAMPLES = WAV[44:]
CHUNK_BYTES = len(SAMPLES) // 10

Work = Callable[["Worker"], Awaitable[None]]


class Worker:
    """The worker of one job."""

    def __init__(self, fakes: FakeService, waiters: CompletionWaiters, request: Request) -> None:
        self.fakes = fakes
        self._waiters = waiters
        self.request = request

    def deliver(self, body: bytes) -> bool:
        """Post a message to the request that created the job."""
        assert self.request.subscriber is not None
        return self._waiters.deliver(self.request.subscriber.reply_to.connection_id, body)

    def start(self, take: str = "t", *, restarted: bool = False) -> None:
        """Report that the job has started."""
        message = StreamStarted(job_id=self.request.job_id, take=take, restarted=restarted)
        self.deliver(stream_message(message))

    async def send_chunks(self, *seqs: int, take: str = "t", samples: bytes = SAMPLES) -> None:
        """Send chunks of a tenth of the audio each."""
        for seq in seqs:
            audio = samples[seq * CHUNK_BYTES : (seq + 1) * CHUNK_BYTES]
            message = AudioChunk(
                job_id=self.request.job_id,
                take=take,
                seq=seq,
                sample_rate=RATE,
                audio_seconds=(seq + 1) * 0.1,
                audio=encode_pcm(audio),
            )
            self.deliver(stream_message(message))
            await asyncio.sleep(0)

    async def succeed(self, wav: bytes = WAV, take: str | None = "t") -> None:
        """Store the audio and the outcome, and send the completion."""
        resources = self.fakes.resources
        key = layout.preview(self.request.job_id)
        await resources.bucket.put(key, wav, "audio/wav")
        preview = Preview(
            key=key,
            sample_rate=RATE,
            duration_seconds=1.0,
            expires_at=retention.preview_expires_at(self.fakes.time(), resources.settings),
        )
        outcome = Succeeded(**outcome_fields(self.request, self.fakes.time()), preview=preview, take=take)
        await jobs.write_outcome(resources, outcome)
        self.deliver(Completion(outcome).to_bytes())

    async def fail(self) -> None:
        """Store the failure, and send the completion."""
        error = SynthesisFailed("Synthesis failed.")
        outcome = jobs.failure(self.request, error, self.fakes.time())
        await jobs.write_outcome(self.fakes.resources, outcome)
        self.deliver(Completion(outcome).to_bytes())


@asynccontextmanager
async def api(fakes: FakeService) -> AsyncIterator[tuple[httpx.AsyncClient, CompletionWaiters]]:
    app = create_app(fakes.resources.settings)
    waiters = serve_with(app, fakes.resources)
    waiters.endpoint = "http://127.0.0.1:9"
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client, waiters


async def stream_preview(work: Work, query: str = "stream=1", accept: str = "*/*") -> httpx.Response:
    """Request a preview, run the worker, and return the response."""
    fakes = FakeService()
    async with api(fakes) as (client, waiters):
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        calling = asyncio.create_task(client.post(f"/preview?{query}", data=form, headers={"Accept": accept}))
        while not fakes.synthesis.bodies and not calling.done():  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0)
        message = parse_queue_message(fakes.synthesis.bodies[0])
        assert message is not None
        request = await jobs.read_request(fakes.resources, message.job_id)
        assert request is not None
        await work(Worker(fakes, waiters, request))
        return await calling


async def send_all(worker: Worker) -> None:
    worker.start()
    await worker.send_chunks(*range(10))
    await worker.succeed()


async def test_stream_wav_of_unknown_length() -> None:
    answer = await stream_preview(send_all)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert "content-length" not in answer.headers
    assert answer.content == streamed_wav_header(RATE) + SAMPLES
    assert answer.headers["content-location"] == f"/previews/{answer.headers['x-job-id']}.wav"


@pytest.mark.parametrize(
    ("query", "accept", "media_type", "begins"),
    [
        ("stream=1&format=pcm", "*/*", "audio/pcm", SAMPLES[:100]),
        ("stream=1&format=flac", "*/*", "audio/flac", b"fLaC"),
        ("stream=1&format=opus", "*/*", "audio/ogg", b"OggS"),
        ("stream=1&format=mp3", "audio/wav", "audio/mpeg", b"\xff"),
        ("stream=1", "audio/mpeg", "audio/mpeg", b"\xff"),
        ("stream=1", "audio/mpeg;q=0.5, audio/ogg", "audio/ogg", b"OggS"),
        ("stream=1", "text/html, audio/*;q=0.8", "audio/wav", b"RIFF"),
        ("format=mp3", "*/*", "audio/mpeg", b"\xff"),
        ("", "audio/flac", "audio/flac", b"fLaC"),
    ],
)
async def test_stream_format(query: str, accept: str, media_type: str, begins: bytes) -> None:
    async def work(worker: Worker) -> None:
        await (send_all(worker) if "stream" in query else worker.succeed())

    answer = await stream_preview(work, query, accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.content.startswith(begins)
    extension = answer.headers["content-location"].rpartition(".")[2]
    assert f"preview.{extension}" in answer.headers["content-disposition"]


async def test_format_unknown() -> None:
    fakes = FakeService()
    async with api(fakes) as (client, _):
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await client.post("/preview?format=midi", data=form)
    assert answer.status_code == 422
    assert "mp3" in answer.json()["error"]
    assert fakes.synthesis.bodies == []


async def test_failure_before_audio_returns_problem() -> None:
    async def work(worker: Worker) -> None:
        worker.start()
        await worker.fail()

    answer = await stream_preview(work)
    assert (answer.status_code, answer.json()["code"]) == (502, "synthesis_failed")


async def test_retry_with_same_audio_continues() -> None:
    async def work(worker: Worker) -> None:
        worker.start()
        await worker.send_chunks(0, 1, 2, 3)
        for _ in range(20):
            await asyncio.sleep(0)
        worker.start(restarted=True)
        await worker.send_chunks(*range(10))
        await worker.succeed()

    assert (await stream_preview(work, "stream=1&format=pcm")).content == SAMPLES


@pytest.mark.parametrize("lost", [0, 4, 9])
async def test_lost_chunk_read_from_storage(lost: int) -> None:
    async def work(worker: Worker) -> None:
        worker.start()
        await worker.send_chunks(*(seq for seq in range(10) if seq != lost))
        await worker.succeed()

    assert (await stream_preview(work, "stream=1&format=pcm")).content == SAMPLES


@pytest.mark.parametrize("is_reported", [True, False])
async def test_retry_with_other_audio_aborts(is_reported: bool) -> None:
    other = encode_wav(voice(200.0, seconds=1.0, sample_rate=RATE))

    async def work(worker: Worker) -> None:
        worker.start()
        await worker.send_chunks(0, 1, 2)
        for _ in range(20):
            await asyncio.sleep(0)
        if is_reported:
            worker.start("other", restarted=True)
            await worker.send_chunks(*range(10), take="other", samples=other[44:])
        await worker.succeed(other, "other")

    with capture_logs(), pytest.raises(Exception, match="generated other audio"):
        await stream_preview(work)


@pytest.mark.parametrize("take", ["other", None])
async def test_other_take_of_equal_length_aborts(take: str | None) -> None:
    other = encode_wav(voice(200.0, seconds=1.0, sample_rate=RATE))

    async def work(worker: Worker) -> None:
        worker.start()
        await worker.send_chunks(*range(10))
        await worker.succeed(other, take)

    with capture_logs(), pytest.raises(Exception, match="generated other audio"):
        await stream_preview(work)


async def test_complete_take_needs_no_read() -> None:
    async def work(worker: Worker) -> None:
        worker.start()
        await worker.send_chunks(*range(10))
        await worker.succeed(b"not read")

    assert (await stream_preview(work, "stream=1&format=pcm")).content == SAMPLES


async def test_unavailable_storage_aborts() -> None:
    async def work(worker: Worker) -> None:
        worker.start()
        await worker.send_chunks(0, 1)
        for _ in range(20):
            await asyncio.sleep(0)
        await worker.succeed()
        worker.fakes.bucket.switch.is_up = False

    with capture_logs(), pytest.raises(StreamAborted, match="switched off"):
        await stream_preview(work)


async def test_failure_during_stream_aborts() -> None:
    async def work(worker: Worker) -> None:
        worker.start()
        await worker.send_chunks(0, 1)
        for _ in range(20):
            await asyncio.sleep(0)
        await worker.fail()

    with capture_logs(), pytest.raises(Exception, match="the job failed"):
        await stream_preview(work)


async def test_stream_unsupported_returns_whole_preview() -> None:
    fakes = FakeService()
    async with api(fakes) as (client, waiters):
        waiters.endpoint = None
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        calling = asyncio.create_task(client.post("/preview?stream=1", data=form))
        while not fakes.synthesis.bodies:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0)
        message = parse_queue_message(fakes.synthesis.bodies[0])
        assert message is not None
        request = await jobs.read_request(fakes.resources, message.job_id)
        assert request is not None
        assert request.subscriber is None
        await fakes.succeed(request)
        assert (await calling).content == b"RIFF"


async def test_completion_message_needs_no_read() -> None:
    fakes = FakeService()
    async with api(fakes) as (client, waiters):
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        calling = asyncio.create_task(client.post("/preview", data=form))
        while not fakes.synthesis.bodies:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0)
        message = parse_queue_message(fakes.synthesis.bodies[0])
        assert message is not None
        request = await jobs.read_request(fakes.resources, message.job_id)
        assert request is not None
        outcome = await fakes.succeed(request)
        fakes.recover()
        worker = Worker(fakes, waiters, request)
        assert worker.deliver(Completion(outcome, WAV).to_bytes())
        answer = await calling
        assert (answer.status_code, answer.content) == (200, WAV)
        assert answer.headers["expires"] == "Thu, 01 Jan 2026 00:20:00 GMT"
        assert fakes.bucket.switch.calls == []
        assert worker.deliver(b'{"job_id": "x"}'), "the event that follows finds that the client was answered"


async def test_large_completion_redirects() -> None:
    fakes = FakeService(Settings(tts_backend="mock", answer_max_megabytes=0.000001))
    async with api(fakes) as (client, waiters):
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        calling = asyncio.create_task(client.post("/preview", data=form))
        while not fakes.synthesis.bodies:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0)
        message = parse_queue_message(fakes.synthesis.bodies[0])
        assert message is not None
        request = await jobs.read_request(fakes.resources, message.job_id)
        assert request is not None
        outcome = await fakes.succeed(request)
        assert Worker(fakes, waiters, request).deliver(Completion(outcome, WAV).to_bytes())
        answer = await calling
        assert (answer.status_code, answer.content) == (303, b"")
