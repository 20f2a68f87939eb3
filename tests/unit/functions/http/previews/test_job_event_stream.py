"""The stream of job events: heartbeats, outages, slow clients, revoked keys."""

import asyncio

from functions.http.previews.job_event_stream import JobEvents
from functions.previews.completion_waiters import Waiter
from functions.previews.queue_depth import QueueDepth
from functions.previews.received_progress import ReceivedProgress
from pipeline.contract.messages.stream_messages import AudioProgress, StreamStarted
from pipeline.contract.records import Request
from tests.support.api import event_names, parsed_events
from tests.support.fake_service import FakeService


class Impatient(JobEvents):
    """The same, so that a test takes less time."""

    heartbeat_seconds = 0.01
    key_check_seconds = 0.005


class Stream:
    """A stream read frame by frame."""

    def __init__(self, fakes: FakeService, job: Request) -> None:
        self.is_allowed = True
        self.waiter, self.received = Waiter(job.job_id, None), ReceivedProgress()
        made = Impatient(fakes.resources, QueueDepth(fakes.resources), None, job.job_id, "")
        self.frames = made.until_end(self.waiter, self.received, self._is_allowed)

    async def _is_allowed(self) -> bool:
        return self.is_allowed

    async def next(self) -> bytes:
        async with asyncio.timeout(5):
            return await anext(self.frames)


async def test_heartbeats_and_lost_notification() -> None:
    fakes = FakeService()
    job = await fakes.job()
    stream = Stream(fakes, job)
    assert await stream.next() == b"retry: 2000\n\n"
    assert event_names(await stream.next()) == ["queued"]
    assert [await stream.next() for _ in range(2)] == [b": ping\n\n"] * 2
    await fakes.succeed(job)
    while (frame := await stream.next()) == b": ping\n\n":
        pass
    assert event_names(frame) == ["completed"]


async def test_stream_survives_storage_outage() -> None:
    fakes = FakeService()
    stream = Stream(fakes, await fakes.job())
    fakes.bucket.switch.is_up = False
    assert [await stream.next() for _ in range(3)][1:] == [b": ping\n\n"] * 2
    fakes.bucket.switch.is_up = True
    while (frame := await stream.next()) == b": ping\n\n":
        pass
    assert event_names(frame) == ["queued"]


async def test_slow_client_gets_current_state() -> None:
    fakes = FakeService()
    job = await fakes.job()
    stream = Stream(fakes, job)
    await stream.next()
    await stream.next()
    stream.received.add(StreamStarted(job_id=job.job_id, take="m"))
    for made in range(1, 1000):
        stream.received.add(AudioProgress(job_id=job.job_id, take="m", audio_seconds=made))
    frames = [await stream.next(), await stream.next()]
    assert event_names(b"".join(frames)) == ["started", "progress"]
    assert parsed_events(frames[1])[0]["data"]["data"]["audio_seconds"] == 999
    assert await stream.next() == b": ping\n\n"


async def test_revoked_key_ends_stream() -> None:
    fakes = FakeService()
    stream = Stream(fakes, await fakes.job())
    assert [await stream.next() for _ in range(3)][-1] == b": ping\n\n"
    stream.is_allowed = False
    async with asyncio.timeout(5):
        assert [frame async for frame in stream.frames] == []


async def test_overdue_job_fails() -> None:
    fakes = FakeService()
    stream = Stream(fakes, await fakes.job())
    await stream.next()
    await stream.next()
    fakes.advance(hours=2)
    while (frame := await stream.next()) == b": ping\n\n":
        pass
    assert parsed_events(frame)[0]["data"]["data"]["code"] == "deadline_exceeded"
