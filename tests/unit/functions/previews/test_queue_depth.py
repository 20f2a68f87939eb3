"""The cached depth of the queue."""

import asyncio
from datetime import timedelta

import pytest

from functions.previews.queue_depth import QueueDepth
from pipeline.errors import QueueFull, Unavailable
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import FakeTime
from tests.support.fakes.switch import Switch


async def test_concurrent_calls_share_read() -> None:
    fakes = FakeService()
    for _ in range(3):
        await fakes.job()
    queue_depth = QueueDepth(fakes.resources)
    assert await asyncio.gather(*(queue_depth.ahead() for _ in range(10))) == [2] * 10
    assert fakes.synthesis.switch.count("depth") == 1


async def test_depth_read_again_when_stale() -> None:
    fakes = FakeService()
    queue_depth = QueueDepth(fakes.resources)
    assert await queue_depth.ahead() == 0
    await fakes.job()
    await fakes.job()
    fakes.advance(seconds=4.9)
    assert await queue_depth.ahead() == 0
    fakes.advance(seconds=0.1)
    assert await queue_depth.ahead() == 1


async def test_depth_unknown_during_outage() -> None:
    fakes = FakeService()
    fakes.synthesis.switch.is_up = False
    queue_depth = QueueDepth(fakes.resources)
    assert await queue_depth.ahead() is None
    assert await queue_depth.ahead() is None
    assert fakes.synthesis.switch.count("depth") == 1
    assert queue_depth.retry_seconds(fakes.time(), None) == 1


class SlowToFail(Switch):
    """Takes longer to fail than what is known of the depth is used for."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__()
        self._time = time

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        self._time.now += timedelta(seconds=6)
        raise Unavailable("no answer")


async def test_slow_failure_is_shared() -> None:
    fakes = FakeService()
    fakes.synthesis.switch = SlowToFail(fakes.time)
    queue_depth = QueueDepth(fakes.resources)
    assert await asyncio.gather(*(queue_depth.ahead() for _ in range(10))) == [None] * 10
    assert fakes.synthesis.switch.count("depth") == 1


@pytest.mark.parametrize(
    ("ahead", "age", "seconds"),
    [(0, 0, 1), (7, 0, 1), (8, 0, 2), (80, 0, 11), (10_000, 0, 30), (0, 25, 5), (80, 25, 11), (0, 3600, 30)],
)
def test_retry_seconds_grow(ahead: int, age: float, seconds: int) -> None:
    fakes = FakeService(Settings(worker_batch_size=8))
    created_at = fakes.time() - timedelta(seconds=age)
    assert QueueDepth(fakes.resources).retry_seconds(created_at, ahead) == seconds


async def test_room_while_few_jobs_wait() -> None:
    fakes = FakeService(Settings(jobs_waiting=3))
    queue_depth = QueueDepth(fakes.resources)
    await queue_depth.require_room()
    await fakes.job()
    await queue_depth.ahead()
    fakes.recover()
    fakes.advance(seconds=60)
    await queue_depth.require_room()
    assert fakes.synthesis.switch.calls == []


@pytest.mark.parametrize(("limit", "is_refused"), [(1, True), (2, True), (3, False), (0, False)])
async def test_no_room_beyond_limit(limit: int, is_refused: bool) -> None:
    fakes = FakeService(Settings(jobs_waiting=limit))
    queue_depth = QueueDepth(fakes.resources)
    for _ in range(2):
        await fakes.job()
    await queue_depth.ahead()
    if not is_refused:
        await queue_depth.require_room()
        return
    with pytest.raises(QueueFull) as caught:
        await queue_depth.require_room()
    assert caught.value.retry_after == 30
    fakes.advance(seconds=5)
    await fakes.synthesis.delete([message.receipt for message in await fakes.synthesis.receive(10, wait_seconds=0)])
    await queue_depth.require_room()
