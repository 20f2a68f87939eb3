"""A worker whose storage and queue clients are in processes of their own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import psutil
import pytest

from gpu_runner.clients.pool import in_processes
from pipeline.clients.resources import Resources
from pipeline.clients.storage import PreconditionFailed
from pipeline.contract import layout
from pipeline.domain import jobs
from pipeline.errors import Misconfigured, Unavailable
from tests.support.engines import ScriptedEngine
from tests.support.job_requests import submit_upload_job, success_of
from tests.support.waiting import eventually, until
from tests.support.workers import real_time_worker


def client_processes() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [child for child in children if "gpu_runner.clients.process" in child.cmdline()]


@pytest.fixture
async def remote(resources: Resources) -> AsyncIterator[Resources]:
    async with in_processes(resources, 2) as remote:
        yield remote


async def test_worker_uses_client_processes(resources: Resources, remote: Resources) -> None:
    requests = [await submit_upload_job(resources) for _ in range(5)]
    assert len(client_processes()) == 2
    async with real_time_worker(remote, ScriptedEngine()):
        for request in requests:
            await eventually(partial(jobs.read_outcome, resources, request.job_id))
    for request in requests:
        assert await success_of(resources, request)
        assert await resources.bucket.head(layout.preview(request.job_id))
    assert list(await resources.synthesis.receive(10, wait_seconds=0)) == []


async def test_remote_list_returns_keys(remote: Resources) -> None:
    for key in ("a/1", "a/2", "b/1"):
        await remote.bucket.put(key, b"", "text/plain")
    assert [item.key async for item in remote.bucket.list("a/", start_after="a/1")] == ["a/2"]


async def test_remote_call_raises_same_error(remote: Resources) -> None:
    await remote.bucket.put("k", b"body", "text/plain")
    with pytest.raises(PreconditionFailed):
        await remote.bucket.read("k", if_match='"other"')
    settings = remote.settings.model_copy(update={"synthesis_queue": "no-such-queue"})
    async with in_processes(replace(remote, settings=settings), 1) as elsewhere:
        with pytest.raises(Misconfigured, match="no-such-queue"):
            await elsewhere.synthesis.ping()


async def test_remote_poll_cancelled(resources: Resources) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        while await reader.read(1024):
            pass
        hung_up.set()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = resources.settings.model_copy(
        update={"aws_endpoint_url_sqs": url, "synthesis_queue": f"{url}/queue"}
    )
    async with server, in_processes(replace(resources, settings=settings), 1) as remote:
        poll = asyncio.create_task(remote.synthesis.receive(10, wait_seconds=20))
        async with asyncio.timeout(20):
            await asked.wait()
            poll.cancel()
            await hung_up.wait()


async def test_killed_client_process_is_replaced(remote: Resources) -> None:
    killed = client_processes()
    polls = [asyncio.create_task(remote.synthesis.receive(10, wait_seconds=20)) for _ in killed]
    await asyncio.sleep(0.2)
    for process in killed:
        process.kill()
    for poll in polls:
        with pytest.raises(Unavailable):
            await poll
    await eventually(lambda: _answers(remote))
    assert len(client_processes()) == 2


async def _answers(remote: Resources) -> bool:
    try:
        await asyncio.gather(remote.bucket.ping(), remote.bucket.ping())
    except Unavailable:
        return False
    return True


async def test_client_process_ignores_sigterm(resources: Resources) -> None:
    async with in_processes(resources, 1) as remote:
        (process,) = client_processes()
        os.kill(process.pid, signal.SIGTERM)
        await remote.bucket.ping()
    await until(lambda: not process.is_running())
