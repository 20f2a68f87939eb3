"""An answer that breaks off in the middle is an outage, not a crash."""

import asyncio

import pytest

from pipeline.errors import Unavailable
from pipeline.resources import connect
from pipeline.settings import Settings

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: 1000\r\n"
    b'ETag: "x"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n'
)


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
