"""How many wait is asked for seldom, and not knowing it does no harm."""

import asyncio
from datetime import timedelta

import pytest

from functions.previews.queue_depth import QueueDepth
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.fakes import FakeTime, Switch
from tests.world import World


async def test_many_who_ask_at_once_share_one_look() -> None:
    world = World()
    for _ in range(3):
        await world.job()
    queue_depth = QueueDepth(world.resources)
    assert await asyncio.gather(*(queue_depth.ahead() for _ in range(10))) == [2] * 10
    assert world.synthesis.switch.count("depth") == 1


async def test_it_looks_again_after_some_seconds() -> None:
    world = World()
    queue_depth = QueueDepth(world.resources)
    assert await queue_depth.ahead() == 0
    await world.job()
    await world.job()
    world.later(seconds=4.9)
    assert await queue_depth.ahead() == 0
    world.later(seconds=0.1)
    assert await queue_depth.ahead() == 1


async def test_a_queue_that_does_not_answer_leaves_it_open() -> None:
    world = World()
    world.synthesis.switch.is_up = False
    queue_depth = QueueDepth(world.resources)
    assert await queue_depth.ahead() is None
    assert await queue_depth.ahead() is None
    assert world.synthesis.switch.count("depth") == 1
    assert queue_depth.retry_seconds(world.time(), None) == 1


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


async def test_those_who_wait_for_a_queue_that_fails_slowly_do_not_ask_it_one_by_one() -> None:
    world = World()
    world.synthesis.switch = SlowToFail(world.time)
    queue_depth = QueueDepth(world.resources)
    assert await asyncio.gather(*(queue_depth.ahead() for _ in range(10))) == [None] * 10
    assert world.synthesis.switch.count("depth") == 1


@pytest.mark.parametrize(
    ("ahead", "age", "seconds"),
    [(0, 0, 1), (7, 0, 1), (8, 0, 2), (80, 0, 11), (10_000, 0, 30), (0, 25, 5), (80, 25, 11), (0, 3600, 30)],
)
def test_more_ahead_and_a_longer_wait_mean_asking_later(ahead: int, age: float, seconds: int) -> None:
    world = World(Settings(worker_batch_size=8))
    created_at = world.time() - timedelta(seconds=age)
    assert QueueDepth(world.resources).retry_seconds(created_at, ahead) == seconds
