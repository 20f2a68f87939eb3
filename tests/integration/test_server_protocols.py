"""The server over raw sockets: timeouts, size limits, and invalid HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import h11
import httpx
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from functions.http.middleware.security_headers import HEADERS
from functions.local.http_parser import HEADERS_MAX_BYTES, URL_MAX_BYTES
from functions.local.http_protocol import HttpProtocol
from functions.local.server import local_app
from functions.websocket.client_messages import MESSAGE_MAX_BYTES
from pipeline.clients.resources import Resources
from tests.support.http_server import override, run_server

STUDIO = "https://studio.example"
POST = b"POST /voices HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SOCKET = b"GET /ws HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class ShortTimeouts(HttpProtocol):
    """The protocol with short timeouts, for fast tests."""

    headers_timeout_seconds = 0.4
    linger_seconds = 0.4
    read_timeout_seconds = 0.4


@pytest.fixture
async def url(resources: Resources) -> AsyncIterator[str]:
    settings = override(resources.settings, cors_origins=STUDIO, body_timeout_seconds=0.4)
    async with run_server(local_app(settings), http=ShortTimeouts) as url:
        yield url


class Caller:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)
        self._http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response: status, headers, body."""
        status, headers, body = 0, dict[str, str](), b""
        async with asyncio.timeout(10):
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(await self.reader.read(65536))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return status, headers, body

    async def is_closed(self) -> bool:
        """Return whether the server closes the connection."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


@asynccontextmanager
async def call(url: str, sent: bytes) -> AsyncIterator[Caller]:
    """Connect, send bytes, and close the connection at the end."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(sent)
        yield Caller(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def sending(caller: Caller, part: bytes) -> AsyncIterator[None]:
    """Send the same bytes repeatedly."""

    async def go_on() -> None:
        while True:
            caller.writer.write(part)
            await asyncio.sleep(0.05)

    going_on = asyncio.create_task(go_on())
    try:
        yield
    finally:
        going_on.cancel()


def check_problem(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    got, headers, body = answer
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert json.loads(body)["code"] == code
    assert {name.lower(): value for name, value in HEADERS.items()}.items() <= headers.items()
    assert "server" not in headers


async def test_idle_connection_is_closed(url: str) -> None:
    async with call(url, b"") as caller:
        assert await caller.is_closed()


@pytest.mark.parametrize("first", [b"", GET + b"\r\n"])
async def test_slow_headers_return_408(url: str, first: bytes) -> None:
    async with call(url, first) as caller:
        if first:
            assert (await caller.answer())[0] == 200
        caller.writer.write(GET)
        async with sending(caller, b"X: x\r\n"), asyncio.timeout(15):
            received = await caller.reader.read()
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in received


async def test_header_timeout_restarts_per_request(url: str) -> None:
    async with call(url, b"") as caller:
        for _ in range(4):
            await asyncio.sleep(0.2)
            caller.writer.write(GET + b"\r\n")
            again = Caller(caller.reader, caller.writer)
            assert (await again.answer())[0] == 200


async def test_stalled_body_returns_408(url: str) -> None:
    async with call(url, POST + b'Content-Length: 100\r\n\r\n{"name":') as caller:
        answer = await caller.answer()
        check_problem(answer, 408, "request_timeout")
        assert answer[1]["x-correlation-id"]
        assert await caller.is_closed()


async def test_client_sending_after_413_is_closed(url: str) -> None:
    async with (
        call(url, POST + b"Content-Length: 99999999\r\n\r\n") as caller,
        sending(caller, b"x" * 1000),
    ):
        check_problem(await caller.answer(), 413, "too_large")
        assert await caller.is_closed()


async def test_slow_response_has_no_timeout() -> None:
    async def slow(scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)
        await PlainTextResponse("done")(scope, _receive, send)

    async with run_server(slow, http=ShortTimeouts, lifespan="off") as url, call(url, GET + b"\r\n") as caller:
        assert (await caller.answer())[2] == b"done"


LARGE = b"x" * 30_000_000


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(LARGE)(scope, receive, send)


async def test_client_not_reading_is_closed() -> None:
    async with run_server(large, http=ShortTimeouts, lifespan="off") as url, call(url, GET + b"\r\n") as caller:
        await asyncio.sleep(2)
        async with asyncio.timeout(15):
            with suppress(ConnectionResetError):
                assert len(await caller.reader.read()) < len(LARGE)


async def test_slow_reader_gets_whole_response() -> None:
    async with run_server(large, http=ShortTimeouts, lifespan="off") as url, call(url, GET + b"\r\n") as caller:
        got = 0
        async with asyncio.timeout(20):
            while got < len(LARGE):
                part = await caller.reader.read(1_000_000)
                assert part
                got += len(part)
                await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /" + b"x" * URL_MAX_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "uri_too_long"),
        (GET + b"X: " + b"x" * HEADERS_MAX_BYTES + b"\r\n\r\n", 431, "request_header_fields_too_large"),
        (GET + b"X: y\r\n" * 10_000 + b"\r\n", 431, "request_header_fields_too_large"),
        (GET + b"X: " + b"x" * 300_000, 431, "request_header_fields_too_large"),
        (b"hello\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad_request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
        (b"GET /ws?" + b"x" * URL_MAX_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE, 414, "uri_too_long"),
    ],
)
async def test_bad_request_returns_problem(url: str, sent: bytes, status: int, code: str) -> None:
    async with call(url, sent) as caller:
        check_problem(await caller.answer(), status, code)
        assert await caller.is_closed()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"X: " + b"x" * 9000 + b"\r\n", b" 431 "),
        (b"".join(b"X-%d: y\r\n" % number for number in range(200)), b" 431 "),
        (b"Content-Length: 5\r\n", b""),
        (b"Sec-WebSocket-Version: 12\r\n", b" 400 "),
    ],
)
async def test_bad_handshake_closes_connection(url: str, headers: bytes, status: bytes) -> None:
    async with call(url, SOCKET + headers + UPGRADE) as caller, asyncio.timeout(15):
        received = await caller.reader.read()
    assert status in received.partition(b"\r\n")[0]
    assert b"\r\nserver:" not in received.lower()


def at(url: str, **headers: str) -> connect:
    return connect(url.replace("http", "ws") + "/ws", additional_headers=headers)


@pytest.mark.parametrize("path", ["/", "/voices", "/ws/", "/nowhere", "/docs/assets/x"])
async def test_upgrade_on_other_path_returns_404(url: str, path: str) -> None:
    async with call(url, SOCKET.replace(b"/ws", path.encode()) + UPGRADE) as caller:
        check_problem(await caller.answer(), 404, "not_found")


async def test_websocket_foreign_origin_refused(url: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await at(url, Origin="https://evil.example").__aenter__()
    answer = refused.value.response
    check_problem(
        (answer.status_code, {n.lower(): v for n, v in answer.headers.raw_items()}, bytes(answer.body)),
        403,
        "origin_not_allowed",
    )
    assert answer.headers["X-Correlation-Id"]


async def test_websocket_allowed_origins(url: str) -> None:
    for headers in ({}, {"Origin": url}, {"Origin": STUDIO}):
        async with at(url, **headers) as opened:
            assert opened.response is not None
            assert "server" not in opened.response.headers


async def test_foreign_host_returns_421(url: str) -> None:
    for sent in (GET + b"\r\n", SOCKET + b"Origin: http://rebound.example\r\n" + UPGRADE):
        async with call(url, sent.replace(b"Host: localhost", b"Host: rebound.example")) as caller:
            check_problem(await caller.answer(), 421, "misdirected_request")


async def test_websocket_without_pong_is_closed(resources: Resources) -> None:
    async with run_server(local_app(resources.settings), ws_ping_interval=0.1, ws_ping_timeout=1) as url:
        async with call(url, SOCKET + UPGRADE) as dead, asyncio.timeout(15):
            await dead.reader.read()  # until the end, without answering pings
        async with at(url) as alive:
            await asyncio.sleep(1.5)
            await alive.send("{}")
            assert json.loads(await alive.recv())["type"] == "error"


async def test_large_message_closes_own_connection(url: str) -> None:
    async with at(url) as other, at(url) as greedy:
        with suppress(ConnectionClosed):
            await greedy.send("x" * (MESSAGE_MAX_BYTES + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            await greedy.recv()
        await other.send("{}")
        assert json.loads(await other.recv())["type"] == "error"


async def test_connections_route_has_no_server_header(resources: Resources) -> None:
    app = local_app(resources.settings)
    async with run_server(app), httpx.AsyncClient() as client:
        answer = await client.post(f"{app.state.connections.endpoint}/@connections/nobody")
    assert answer.status_code == 403
    assert "server" not in answer.headers
