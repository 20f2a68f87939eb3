"""Requests that cost much to receive: a connection is limited before it affects others, on each listener."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from functions.local import connection_posts
from functions.local.connections import ConnectionRegistry
from functions.local.http_parser import EVENTS_PER_TURN, SMALL_CHUNKS_MAX
from functions.local.http_protocol import HttpProtocol
from functions.previews.completion_waiters import CompletionWaiters
from pipeline.access.api_keys import ANONYMOUS
from tests.support.fake_service import FakeService
from tests.support.http_server import run_server
from tests.unit.functions.local.test_connections import FakeSocket

HEAD = b"POST /voices HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CREDENTIALS = Credentials("LOCAL1", "secret")


async def reads_body(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await PlainTextResponse("read")(scope, receive, send)


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("refused", status_code=401)(scope, receive, send)


@asynccontextmanager
async def connect(url: str, sent: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(sent)
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def received(url: str, sent: bytes) -> bytes:
    async with asyncio.timeout(10), connect(url, sent) as (reader, _):
        return await reader.read()


def chunks(size: int, count: int) -> bytes:
    return (b"%x\r\n" % size + b"x" * size + b"\r\n") * count


@contextmanager
def counted_turns() -> Iterator[list[int]]:
    """Count the iterations of the event loop."""
    turns = [0]

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            turns[0] += 1

    counting = asyncio.create_task(count())
    try:
        yield turns
    finally:
        counting.cancel()


async def test_small_chunks_yield_to_others() -> None:
    body = chunks(1, SMALL_CHUNKS_MAX)
    parsed: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with counted_turns() as turns:
            await reads_body(scope, receive, send)
        parsed.append(turns[0])

    async with run_server(app, lifespan="off") as url:
        assert b"read" in await received(
            url, CHUNKED + body + b"0\r\n\r\n" + GET[:-2] + b"Connection: close\r\n\r\n"
        )
    assert parsed[0] >= SMALL_CHUNKS_MAX // EVENTS_PER_TURN - 1


@pytest.mark.parametrize("size", [1, 31])
async def test_many_small_chunks_return_400(size: int) -> None:
    async with run_server(reads_body, lifespan="off") as url:
        response = await received(url, CHUNKED + chunks(size, 2 * SMALL_CHUNKS_MAX))
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"at least 32 bytes" in response


async def test_larger_chunks_are_accepted() -> None:
    sent = CHUNKED + chunks(32, 3 * SMALL_CHUNKS_MAX) + b"0\r\n\r\n"
    async with run_server(reads_body, lifespan="off") as url, connect(url, sent) as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("head", [CHUNKED, HEAD + b"Content-Length: 99999999\r\n\r\n"])
async def test_early_response_closes_connection(head: bytes) -> None:
    async with (
        run_server(refuses, lifespan="off") as url,
        asyncio.timeout(10),
        connect(url, head) as (reader, writer),
    ):
        response = await reader.read()  # until the server closes its side
        assert response.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in response.lower()
        writer.write(chunks(1, 1000) + b"0\r\n\r\n" + GET)
        await writer.drain()
        assert await reader.read() == b""


class SmallLinger(HttpProtocol):
    linger_max_bytes = 8_000_000


async def send(writer: asyncio.StreamWriter, megabytes: int) -> None:
    for _ in range(megabytes * 10):
        writer.write(bytes(100_000))
        await writer.drain()


async def test_early_response_reaches_sending_client() -> None:
    head = HEAD + b"Content-Length: 99999999\r\n\r\n"
    async with run_server(refuses, lifespan="off", http=SmallLinger) as url, connect(url, head) as (reader, writer):
        await send(writer, megabytes=4)
        assert b"refused" in await reader.read()
        with pytest.raises(ConnectionError):
            await send(writer, megabytes=40)


class FewConnections(HttpProtocol):
    max_connections = 4


async def test_idle_connections_are_replaced() -> None:
    async with run_server(refuses, lifespan="off", http=FewConnections) as url:
        idle = [await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port) for _ in range(8)]
        async with asyncio.timeout(10), connect(url, GET) as (reader, _):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        for _, writer in idle:
            writer.close()


async def test_busy_connections_are_not_replaced() -> None:
    end = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await end.wait()
        await refuses(scope, receive, send)

    async with run_server(waits, lifespan="off", http=FewConnections) as url, asyncio.timeout(10):
        busy = [await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port) for _ in range(4)]
        for _, writer in busy:
            writer.write(GET)
            await asyncio.sleep(0.05)
        assert (await received(url, GET)).startswith(b"HTTP/1.1 503 ")
        end.set()
        for reader, writer in busy:
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.close()


@asynccontextmanager
async def posts(registry: ConnectionRegistry) -> AsyncIterator[str]:
    async def credentials() -> ReadOnlyCredentials:
        return CREDENTIALS.get_frozen_credentials()

    posted = connection_posts.PostedMessages(CompletionWaiters(FakeService().resources), registry)
    async with connection_posts.serving(posted, connection_posts.verifier_for(credentials)) as url:
        yield url


def signed_head(url: str, connection_id: str, body: bytes, credentials: Credentials = CREDENTIALS) -> bytes:
    request = AWSRequest(method="POST", url=f"{url}/@connections/{connection_id}", data=body)
    SigV4Auth(credentials, "execute-api", "us-east-1").add_auth(request)
    lines = [f"POST /@connections/{connection_id} HTTP/1.1", f"Host: {urlsplit(url).netloc}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return ("\r\n".join(lines) + "\r\n").encode()


async def test_post_small_chunks_return_400() -> None:
    async with posts(ConnectionRegistry()) as url:
        head = signed_head(url, "c", b"") + b"Transfer-Encoding: chunked\r\n\r\n"
        response = await received(url, head + chunks(1, 2 * SMALL_CHUNKS_MAX))
    assert response.startswith(b"HTTP/1.1 400 ")


async def test_post_of_other_key_is_not_read() -> None:
    async with posts(ConnectionRegistry()) as url:
        head = signed_head(url, "c", b"", Credentials("OTHER", "secret"))
        response = await received(url, head + b"Content-Length: 100000\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(("is_open", "status"), [(True, b"400"), (False, b"410")])
async def test_post_of_binary_data(is_open: bool, status: bytes) -> None:
    registry = ConnectionRegistry()
    connection = registry.add(FakeSocket().as_socket(), ANONYMOUS)
    if not is_open:
        registry.remove(connection)
    connection_id, body = connection.address.connection_id, b"\xff\x00"
    async with posts(registry) as url:
        sent = signed_head(url, connection_id, body) + b"Content-Length: 2\r\nConnection: close\r\n\r\n" + body
        assert (await received(url, sent)).startswith(b"HTTP/1.1 " + status)


async def test_post_bodies_are_limited_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_posts, "UNVERIFIED_MAX_BYTES", 200_000)
    async with posts(ConnectionRegistry()) as url, asyncio.timeout(10):
        head = signed_head(url, "c", b"") + b"Content-Length: 120000\r\n\r\n"
        async with connect(url, head + bytes(110_000)) as (first, writer), connect(url, head) as (second, other):
            await asyncio.sleep(0.2)
            other.write(bytes(110_000))
            assert (await second.readline()).startswith(b"HTTP/1.1 503 ")
            writer.write(bytes(10_000))
            assert (await first.readline()).startswith(b"HTTP/1.1 403 ")  # the signature is for another body
        async with connect(url, head + bytes(120_000)) as (third, _):
            assert (await third.readline()).startswith(b"HTTP/1.1 403 ")
