"""Jobs of clients that close the connection of a streamed preview."""

import asyncio
from urllib.parse import urlencode

import pytest
from starlette.types import ASGIApp, Message

from functions.http.application import create_app, serve_with
from pipeline.access import webhook_receivers
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.stream_messages import AudioChunk, encode_pcm, stream_message
from pipeline.contract.records import Failed
from pipeline.domain import jobs
from tests.support.api import WAV, last_request
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import settle
from tests.support.fakes.switch import Switch


class Connection:
    """An ASGI request that the test can end by closing the connection."""

    def __init__(
        self, path: str, form: dict[str, str], headers: dict[str, str] | None = None, *, method: str = "POST"
    ) -> None:
        self.messages: list[Message] = []
        self._closed = asyncio.Event()
        self._body: bytes | None = urlencode(form).encode()
        all_headers = {"content-type": "application/x-www-form-urlencoded", "host": "test"} | (headers or {})
        path, _, query = path.partition("?")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in all_headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }

    @property
    def has_started(self) -> bool:
        """Whether a part of the body was sent."""
        return any(message.get("body") for message in self.messages)

    async def run(self, app: ASGIApp) -> None:
        """Handle the request."""
        await app(self._scope, self._receive, self._send)

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body}
        await self._closed.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.messages.append(message)


async def close_stream(
    fakes: FakeService,
    *,
    after_audio: bool,
    query: str = "stream=1",
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    is_subscribed: bool = False,
) -> str:
    """Request a preview, close the connection before or after the first audio, and return the job's id."""
    app = create_app(fakes.resources.settings)
    waiters = serve_with(app, fakes.resources)
    waiters.endpoint = "http://127.0.0.1:9"
    form = {"session_id": await fakes.session(), "response_text": "Hello."} | (form or {})
    connection = Connection(f"/preview?{query}", form, headers)
    running = asyncio.create_task(connection.run(app))
    await settle()
    request = await last_request(fakes)
    if is_subscribed:
        await fakes.bucket.put(layout.subscriber(request.job_id, "other"), b"{}", JSON)
    if after_audio:
        chunk = AudioChunk(
            job_id=request.job_id,
            take="t",
            seq=0,
            sample_rate=24_000,
            audio_seconds=0.1,
            audio=encode_pcm(bytes(4800)),
        )
        assert request.subscriber is not None
        waiters.deliver(request.subscriber.reply_to.connection_id, stream_message(chunk))
        await settle()
        assert connection.has_started
    connection.close()
    await settle()
    if query:
        await running
    running.cancel()
    return request.job_id


@pytest.mark.parametrize("after_audio", [False, True])
async def test_closed_stream_cancels_job(after_audio: bool) -> None:
    fakes = FakeService()
    job_id = await close_stream(fakes, after_audio=after_audio)
    outcome = await jobs.read_outcome(fakes.resources, job_id)
    assert isinstance(outcome, Failed)
    assert outcome.code == "cancelled"
    assert layout.cancellation(job_id) in fakes.bucket.objects


@pytest.mark.parametrize("after_audio", [False, True])
async def test_closed_stream_with_subscriber_continues(after_audio: bool) -> None:
    fakes = FakeService()
    job_id = await close_stream(fakes, after_audio=after_audio, is_subscribed=True)
    assert await jobs.read_outcome(fakes.resources, job_id) is None


async def test_closed_stream_with_idempotency_key_continues() -> None:
    fakes = FakeService()
    job_id = await close_stream(fakes, after_audio=True, headers={"Idempotency-Key": "k"})
    assert await jobs.read_outcome(fakes.resources, job_id) is None


async def test_closed_stream_with_webhook_continues() -> None:
    fakes = FakeService()
    await webhook_receivers.make_secret(fakes.resources, None)
    job_id = await close_stream(fakes, after_audio=True, form={"webhook_url": "https://hooks.example/"})
    assert await jobs.read_outcome(fakes.resources, job_id) is None


async def test_closed_request_without_stream_continues() -> None:
    fakes = FakeService()
    job_id = await close_stream(fakes, after_audio=False, query="")
    assert await jobs.read_outcome(fakes.resources, job_id) is None


class BlockedReads(Switch):
    """Blocks reads until the test opens it."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        if call == "read":
            await self.opened.wait()


async def test_closed_download_cancels_encoding() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.bucket.put(layout.preview(request.job_id), WAV, "audio/wav")
    await fakes.succeed(request)
    fakes.bucket.switch = reads = BlockedReads()
    app = create_app(fakes.resources.settings)
    serve_with(app, fakes.resources)
    first, second = (Connection(f"/previews/{request.job_id}.opus", {}, method="GET") for _ in range(2))
    running = asyncio.create_task(first.run(app))
    await settle()
    assert reads.count("read") == 1
    first.close()
    await running
    assert first.messages[0]["status"] == 499
    reads.opened.set()
    await second.run(app)
    assert second.messages[0]["status"] == 200
    assert reads.count("read") == 2, "the first encoding was cancelled"
