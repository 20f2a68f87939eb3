"""The memory of unfinished bodies is released."""

import asyncio
from urllib.parse import urlsplit

import psutil
import pytest

from pipeline.clients.resources import Resources
from tests.integration.test_server_process import server
from tests.support.waiting import eventually

CONNECTIONS, MEGABYTES = 60, 8
MIB = 1024 * 1024
HEAD = (
    b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
)


async def leave_unfinished(url: str) -> None:
    address = urlsplit(url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(HEAD)
    for _ in range(MEGABYTES * 10):
        writer.write(bytes(100_000))
        await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.slow
async def test_memory_returns_after_burst(resources: Resources) -> None:
    async with server(resources) as (url, process):
        api = psutil.Process(process.pid)
        await leave_unfinished(url)
        before = api.memory_info().rss

        async def has_returned() -> bool:
            return api.memory_info().rss - before < 20 * MIB

        await asyncio.gather(*(leave_unfinished(url) for _ in range(CONNECTIONS)))
        await asyncio.sleep(1)
        await eventually(has_returned, seconds=20)
