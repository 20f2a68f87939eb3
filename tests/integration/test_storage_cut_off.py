"""What a storage may answer that no stand-in does: an answer that breaks off, and a conflict."""

import asyncio

import pytest

from pipeline.clients.resources import connect
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
async def test_a_body_that_breaks_off_is_unavailable() -> None:
    server = await asyncio.start_server(answer_half, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(Settings(aws_endpoint_url=f"http://127.0.0.1:{port}")) as resources:
        with pytest.raises(Unavailable):
            await resources.bucket.get("key")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("conflicts", "etag"), [(1, '"x"'), (4, '"x"'), (5, None)])
async def test_a_conflicting_write_is_made_again_and_not_for_ever(conflicts: int, etag: str | None) -> None:
    answers = [CONFLICT] * conflicts + [WRITTEN]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
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
