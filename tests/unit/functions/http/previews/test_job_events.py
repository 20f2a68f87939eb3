"""The events of a job over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from functions.http.application import create_app, serve_with
from functions.http.previews import job_events
from functions.websocket import server_messages
from pipeline.contract import layout
from pipeline.contract.messages.stream_messages import AudioProgress, StreamStarted, stream_message
from pipeline.contract.records import Request, Subscriber
from pipeline.settings import Settings
from tests.support.api import event_names, parsed_events, problem
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import settle


class Following:
    """A client that follows a job in a process that workers can reach, or in one that they can't."""

    def __init__(self, fakes: FakeService, *, endpoint: str | None = "http://127.0.0.1:9") -> None:
        self.fakes = fakes
        app = create_app(fakes.resources.settings)
        self.waiters = serve_with(app, fakes.resources)
        self.waiters.endpoint = endpoint
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def get(self, job_id: str, last_id: str = "") -> httpx.Response:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        return await self.client.get(f"/jobs/{job_id}/events", headers=headers)

    @asynccontextmanager
    async def asked(self, job_id: str, last_id: str = "") -> AsyncIterator["asyncio.Task[httpx.Response]"]:
        asking = asyncio.create_task(self.get(job_id, last_id))
        await settle()
        yield asking
        async with asyncio.timeout(5):
            await asking

    async def post(self, job_id: str, body: bytes) -> None:
        """Post to all subscribers of a job, as another process does."""
        for key in self.fakes.keys(layout.subscribers(job_id)):
            subscriber = Subscriber.model_validate_json(self.fakes.bucket.objects[key].body)
            assert (subscriber.interface, subscriber.progress, subscriber.stream) == ("http", True, False)
            assert self.waiters.deliver(subscriber.reply_to.connection_id, body)
        await settle()

    async def report(self, job_id: str, *seconds: float, take: str = "m", restarted: bool = False) -> None:
        """Report the start of a job and how much audio is made, as a worker does."""
        await self.post(job_id, stream_message(StreamStarted(job_id=job_id, take=take, restarted=restarted)))
        for made in seconds:
            await self.post(job_id, stream_message(AudioProgress(job_id=job_id, take=take, audio_seconds=made)))

    async def end(self, request: Request) -> None:
        """End a job, and notify its subscribers."""
        await self.fakes.succeed(request)
        await self.post(request.job_id, b'{"job_id": "%b"}' % request.job_id.encode())


async def test_events_from_queue_to_end() -> None:
    fakes = FakeService()
    await fakes.job()
    job, following = await fakes.job(), Following(fakes)
    async with following.asked(job.job_id) as asking:
        await following.report(job.job_id, 1.5, 3.0)
        await following.end(job)
    answer = asking.result()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    found = parsed_events(answer.content)
    assert [event["event"] for event in found] == ["queued", "started", "progress", "progress", "completed"]
    assert [event["data"]["data"].get("ahead") for event in found] == [1, None, None, None, None]
    assert [event["data"]["data"].get("audio_seconds") for event in found][2:4] == [1.5, 3.0]
    assert len({event["id"] for event in found}) == 5


async def test_event_data_equals_websocket_message() -> None:
    fakes = FakeService()
    job, following = await fakes.job(), Following(fakes)
    async with following.asked(job.job_id) as asking:
        await following.report(job.job_id)
        await following.end(job)
    found = [event["data"] for event in parsed_events(asking.result().content)]
    started = StreamStarted(job_id=job.job_id, take="m")
    assert found[0]["type"] == "progress"
    assert found[0]["data"] == found[0]["data"] | {"job_id": job.job_id, "status": "queued", "ahead": 0}
    assert found[1] == json.loads(stream_message(started))
    assert found[2] == await server_messages.completion(fakes.resources, await fakes.succeed(job))
    assert found[2]["type"] == "tts_complete"


async def test_failed_event_has_error() -> None:
    fakes = FakeService()
    job, following = await fakes.job(), Following(fakes)
    async with following.asked(job.job_id) as asking:
        await fakes.fail(job)
        await following.post(job.job_id, b"{}")
    (*_, last) = parsed_events(asking.result().content)
    assert last["event"] == "failed"
    assert last["data"]["type"] == "error"
    assert (last["data"]["data"]["job_id"], last["data"]["data"]["code"]) == (job.job_id, "unavailable")


async def test_ended_job_sends_one_event() -> None:
    fakes = FakeService()
    job, following = await fakes.job(), Following(fakes)
    await fakes.succeed(job)
    answer = await following.get(job.job_id)
    (last,) = parsed_events(answer.content)
    assert last["event"] == "completed"
    assert (await following.get(job.job_id, last["id"])).status_code == 204


async def test_reconnect_sends_later_events() -> None:
    fakes = FakeService()
    job, first, second = await fakes.job(), Following(fakes), Following(fakes)
    async with first.asked(job.job_id) as asking:
        await first.report(job.job_id, 1.5)
        first.waiters.stop()
    before = parsed_events(asking.result().content)
    assert [event["event"] for event in before] == ["queued", "started", "progress"]
    async with second.asked(job.job_id, before[-1]["id"]) as asking:
        await second.report(job.job_id, 2.5)
        await second.end(job)
    assert event_names(asking.result().content) == ["progress", "completed"]


@pytest.mark.parametrize(
    ("last", "report", "expected"),
    [
        ("queued 0", {}, ["started", "completed"]),
        ("queued 5", {}, ["queued", "started", "completed"]),
        ("started m", {}, ["completed"]),
        ("progress m 1.5", {}, ["completed"]),
        ("progress m 1.5", {"take": "other"}, ["started", "completed"]),
        ("progress m 1.5", {"restarted": True}, ["started", "completed"]),
        ("restarted m", {"restarted": True}, ["completed"]),
        ("not one of ours", {}, ["queued", "started", "completed"]),
    ],
)
async def test_received_event_not_repeated(last: str, report: dict[str, Any], expected: list[str]) -> None:
    fakes = FakeService()
    job, following = await fakes.job(), Following(fakes)
    async with following.asked(job.job_id, last) as asking:
        await following.report(job.job_id, **report)
        await following.end(job)
    assert event_names(asking.result().content) == expected


def test_event_ids_are_header_values() -> None:
    event = job_events.reported(StreamStarted(job_id="j", take="a model\n/ü"))
    assert event.id.isascii()
    assert event.id.isprintable()
    assert len(event.id.split()) == 2


async def test_stream_end_removes_subscriber() -> None:
    fakes = FakeService()
    job, following = await fakes.job(), Following(fakes)
    async with following.asked(job.job_id):
        assert fakes.keys(layout.subscribers(job.job_id))
        await following.end(job)
    assert fakes.keys(layout.subscribers(job.job_id)) == []


async def test_events_without_streaming() -> None:
    fakes = FakeService()
    job, following = await fakes.job(), Following(fakes, endpoint=None)
    first = await following.get(job.job_id)
    assert event_names(first.content) == ["queued"]
    assert first.content.endswith(b"retry: 1000\n\n")
    assert fakes.keys(layout.subscribers(job.job_id)) == []
    again = await following.get(job.job_id, parsed_events(first.content)[0]["id"])
    assert again.content == b"retry: 1000\n\n"
    await fakes.succeed(job)
    assert event_names((await following.get(job.job_id, "queued 0")).content) == ["completed"]
    assert (await following.get(job.job_id, "end")).status_code == 204


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9"])
async def test_events_of_unknown_job(endpoint: str | None) -> None:
    fakes = FakeService()
    problem(await Following(fakes, endpoint=endpoint).get(fakes.resources.new_id()), 404, "not_found")


async def test_connection_limit_shared_with_websockets() -> None:
    fakes = FakeService(Settings(tts_backend="mock", connections_per_address=1))
    job, following = await fakes.job(), Following(fakes)
    async with following.asked(job.job_id):
        problem(await following.get(job.job_id), 429, "too_many_requests")
        await following.end(job)
    assert (await following.get(job.job_id)).status_code == 200


async def test_shutdown_ends_stream_without_end_event() -> None:
    fakes = FakeService()
    job, following = await fakes.job(), Following(fakes)
    following.waiters.stop()
    assert event_names((await following.get(job.job_id)).content) == ["queued"]
