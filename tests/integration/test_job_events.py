"""Server-sent events of a job over real sockets, with several processes and slow clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from functions.local.server import local_app
from gpu_runner.engines.mock import MockEngine
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Request, Source, Subscriber
from pipeline.domain import acceptance
from tests.support.http_server import run_server, run_simple_worker
from tests.support.job_requests import make_request, store_upload
from tests.support.waiting import eventually
from tests.support.workers import real_time_worker


@pytest.fixture
async def url(resources: Resources) -> AsyncIterator[str]:
    async with run_server(local_app(resources.settings)) as url:
        yield url


async def accept_job(resources: Resources, text: str = "Hello.") -> Request:
    session_id = await store_upload(resources)
    request = make_request(resources, Source(session_id=session_id), session_id, text=text)
    await acceptance.accept(resources, request)
    return request


def subscribers(resources: Resources, job_id: str) -> Callable[[], Awaitable[list[str]]]:
    async def listed() -> list[str]:
        return [item.key async for item in resources.bucket.list(layout.subscribers(job_id))]

    return listed


@asynccontextmanager
async def open_events(url: str, job_id: str, **headers: str) -> AsyncIterator[AsyncIterator[str]]:
    """Open an event stream and yield its lines."""
    async with (
        asyncio.timeout(30),
        httpx.AsyncClient(base_url=url) as client,
        client.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        yield answer.aiter_lines()


async def event_names(lines: AsyncIterator[str]) -> list[str]:
    return [line.removeprefix("event: ") async for line in lines if line.startswith("event: ")]


async def test_events_stream_during_synthesis(url: str, resources: Resources) -> None:
    request = await accept_job(
        resources, "Long enough to last for some seconds, so that there is progress to report. " * 2
    )
    async with open_events(url, request.job_id) as lines, real_time_worker(resources, MockEngine(speed=2)):
        found = [await anext(lines)]
        async for line in lines:
            found.append(line)
            if '"generating"' in line:
                break
    assert any('"queued"' in line for line in found)
    assert any('"started"' in line for line in found)
    assert json.loads(found[-1].removeprefix("data: "))["data"]["audio_seconds"] > 0


async def test_completion_reaches_all_processes(url: str, resources: Resources) -> None:
    request = await accept_job(resources)
    async with (
        run_server(local_app(resources.settings)) as other_url,
        open_events(url, request.job_id) as one,
        open_events(other_url, request.job_id) as other,
        run_simple_worker(resources),
    ):
        found = await asyncio.gather(event_names(one), event_names(other))
    assert [events[-1] for events in found] == ["completed", "completed"]
    await eventually(is_empty_check(subscribers(resources, request.job_id)))


def is_empty_check(listed: Callable[[], Awaitable[list[str]]]) -> Callable[[], Awaitable[bool]]:
    async def is_empty() -> bool:
        return not await listed()

    return is_empty


async def test_disconnect_removes_subscriber(url: str, resources: Resources) -> None:
    request = await accept_job(resources)
    async with open_events(url, request.job_id) as lines:
        await anext(lines)
        assert len(await eventually(subscribers(resources, request.job_id))) == 1
    await eventually(is_empty_check(subscribers(resources, request.job_id)))


async def test_stalled_client_blocks_no_others(url: str, resources: Resources) -> None:
    request, parts = await accept_job(resources), urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1)
    writer.write(f"GET /jobs/{request.job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    (key,) = await eventually(subscribers(resources, request.job_id))
    body = await resources.bucket.get(key)
    assert body is not None
    to = Subscriber.model_validate_json(body).reply_to
    progress = b'{"type":"progress","data":{"job_id":"j","take":"%b","status":"generating","audio_seconds":%d}}'
    for number in range(300):
        await resources.connections.post(to, progress % (b"t" * 4000, number))
    async with open_events(url, request.job_id) as other, run_simple_worker(resources):
        assert (await event_names(other))[-1] == "completed"
    writer.close()


async def test_head_returns_immediately(url: str, resources: Resources) -> None:
    request = await accept_job(resources)
    async with httpx.AsyncClient(base_url=url, timeout=15) as client:
        answer = await client.head(f"/jobs/{request.job_id}/events")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")
    await eventually(is_empty_check(subscribers(resources, request.job_id)))
