"""Idle connections do not use up the descriptors of the API process."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from pipeline.clients.resources import Resources
from tests.integration.test_server_process import server

DESCRIPTORS = 512


@pytest.fixture
def few_descriptors() -> Iterator[tuple[int, int]]:
    """Start processes with the limit of a shell, as far as they do not raise it; yield the limits of the tests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield soft, hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ports(pid: int) -> set[int]:
    """Return the ports that a process listens on: of the API, and of `@connections`."""
    return {one.laddr.port for one in psutil.Process(pid).net_connections() if one.status == psutil.CONN_LISTEN}


async def open_idle(port: int, count: int) -> list[asyncio.StreamWriter]:
    writers = []
    for _ in range(count):
        with suppress(OSError):
            writers.append((await asyncio.open_connection("127.0.0.1", port))[1])
    return writers


@pytest.mark.slow
async def test_idle_connections_leave_room(resources: Resources, few_descriptors: tuple[int, int]) -> None:
    async with server(resources) as (url, process):
        resource.setrlimit(resource.RLIMIT_NOFILE, few_descriptors)
        idle = [writer for port in ports(process.pid) for writer in await open_idle(port, 2 * DESCRIPTORS)]
        async with httpx.AsyncClient(base_url=url, timeout=15) as client:
            responses = [await client.get("/voices") for _ in range(5)]
        for writer in idle:
            writer.close()
    assert [response.status_code for response in responses] == [200] * 5
