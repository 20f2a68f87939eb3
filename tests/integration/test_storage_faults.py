"""Storage faults that moto cannot produce: truncated responses, conflicts, and no response."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.clients import deadlines
from pipeline.clients.resources import Resources, connect
from pipeline.contract.records import ReplyTo
from pipeline.errors import Unavailable
from pipeline.settings import Settings

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: 1000\r\n"
    b'ETag: "x"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n'
)


_ERROR = b"<Error><Code>ConditionalRequestConflict</Code><Message>Once more.</Message></Error>"
CONFLICT = (
    b"HTTP/1.1 409 Conflict\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_ERROR), _ERROR)
)
WRITTEN = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'


async def answer_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD + b"half")
    await writer.drain()
    writer.close()


@pytest.mark.usefixtures("aws")
async def test_truncated_body_is_unavailable() -> None:
    server = await asyncio.start_server(answer_half, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(Settings(aws_endpoint_url=f"http://127.0.0.1:{port}")) as resources:
        with pytest.raises(Unavailable):
            await resources.bucket.get("key")


@pytest.mark.usefixtures("aws")
async def test_truncated_body_is_read_again() -> None:
    bodies = [b"half", b"half", bytes(1000)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + bodies.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(Settings(aws_endpoint_url=f"http://127.0.0.1:{port}")) as resources:
        assert await resources.bucket.get("key") == bytes(1000)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("conflicts", "etag"), [(1, '"x"'), (4, '"x"'), (5, None)])
async def test_write_conflict_is_retried(conflicts: int, etag: str | None) -> None:
    answers = [CONFLICT] * conflicts + [WRITTEN]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b"body"))
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(Settings(aws_endpoint_url=f"http://127.0.0.1:{port}")) as resources:
        write = resources.bucket.replace("key", b"body", "text/plain", etag='"old"')
        if etag is None:
            with pytest.raises(Unavailable):
                await write
        else:
            assert await write == etag


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("size", "waits"), [(0, False), (1000, False), (2**20, True)])
async def test_only_large_bodies_wait_for_continue(size: int, waits: bool) -> None:
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" if waits else b"")
        await reader.readexactly(size)
        writer.write(WRITTEN)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(Settings(aws_endpoint_url=f"http://127.0.0.1:{port}")) as resources:
        assert await resources.bucket.put_once("key", bytes(size), "text/plain")
    assert [b"expect: 100-continue" in head for head in heads] == [waits]


async def _list(resources: Resources) -> list[str]:
    return [item.key async for item in resources.bucket.list("prefix/")]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    "call",
    [
        lambda resources, _: resources.bucket.get("key"),
        lambda resources, _: resources.bucket.put("key", b"x", "x"),
        lambda resources, _: _list(resources),
        lambda resources, _: resources.synthesis.send("body"),
        lambda resources, url: resources.connections.post(ReplyTo(endpoint=url, connection_id="c"), b"x"),
    ],
    ids=["read", "write", "list", "send", "post"],
)
async def test_call_respects_request_deadline(
    call: Callable[[Resources, str], Awaitable[object]],
) -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)  # never responds
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, connect(Settings(aws_endpoint_url=url)) as resources:
        async with asyncio.timeout(15):
            with deadlines.within(0.2), pytest.raises(Unavailable):
                await call(resources, url)
