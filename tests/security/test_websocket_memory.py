"""The memory of unfinished messages is bounded and released."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pipeline.clients.resources import Resources
from tests.integration.test_server_process import server
from tests.support.waiting import eventually

CONNECTIONS, FRAGMENTS = 20, 80
FRAGMENT = b"x" * 60_000
MIB = 1024 * 1024


async def leave_unfinished(url: str, fragments: int, stack: AsyncExitStack) -> None:
    """Open a connection and send fragments of a message without the last.  The stack keeps it open."""
    socket = await stack.enter_async_context(connect(url.replace("http", "ws") + "/ws", close_timeout=0.1))
    sent = asyncio.Event()

    async def message() -> AsyncIterator[bytes]:
        for _ in range(fragments):
            yield FRAGMENT
        sent.set()
        await asyncio.Event().wait()

    async def send() -> None:
        with suppress(ConnectionClosed):
            await socket.send(message())
        sent.set()

    stack.callback(asyncio.create_task(send()).cancel)
    await sent.wait()


@pytest.mark.slow
async def test_unfinished_messages_memory_is_bounded(resources: Resources) -> None:
    async with server(resources) as (url, process):
        api = psutil.Process(process.pid)

        async def has_no_clients() -> bool:
            port = urlsplit(url).port
            return not any(one.laddr.port == port and one.raddr for one in api.net_connections())

        async with AsyncExitStack() as stack:
            await leave_unfinished(url, 1, stack)
        before = api.memory_info().rss
        async with AsyncExitStack() as stack, asyncio.timeout(60):
            await asyncio.gather(*(leave_unfinished(url, FRAGMENTS, stack) for _ in range(CONNECTIONS)))
            during = api.memory_info().rss
        await eventually(has_no_clients)
        after = api.memory_info().rss
    assert during - before < 20 * MIB
    assert after - before < 20 * MIB
