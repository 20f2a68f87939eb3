"""An HTTP request waits for its job: rung by the event path, finding for itself what got lost."""

import asyncio

from functions.previews.completion_waiters import Waiters
from pipeline.contract import events
from pipeline.errors import Unavailable
from tests.fakes import Switch
from tests.world import World

LONG = 60.0


async def test_a_bell_ends_the_wait_at_once() -> None:
    world = World()
    waiters = Waiters(world.resources)
    waiters.endpoint = "http://127.0.0.1:9"
    with waiters.expect("j1") as expectation:
        waiting = asyncio.ensure_future(expectation.wait(LONG))
        await asyncio.sleep(0)
        assert waiters.ring("http-j1", '{"type": "tts_complete"}')
        assert await waiting == {"type": "tts_complete"}
    assert world.bucket.switch.calls == []
    assert not waiters.ring("http-j1", "{}")


async def test_a_bell_before_the_wait_is_not_lost() -> None:
    waiters = Waiters(World().resources)
    with waiters.expect("j1") as expectation:
        waiters.ring("http-j1", '{"n": 1}')
        assert waiters.ring("http-j1", '{"n": 2}')
        assert await expectation.wait(LONG) == {"n": 1}


async def test_an_outcome_whose_event_got_lost_is_found() -> None:
    world = World()
    request = await world.job()
    outcome = await world.succeed(request)
    with Waiters(world.resources).expect(request.job_id) as expectation:
        assert await expectation.wait(LONG) == events.message_for(outcome)


async def test_a_storage_that_is_away_is_waited_for() -> None:
    world = World()
    request = await world.job()
    outcome = await world.succeed(request)
    world.bucket.switch = AwayAtFirst()
    with Waiters(world.resources).expect(request.job_id) as expectation:
        assert await expectation.wait(LONG) == events.message_for(outcome)
    assert world.bucket.switch.count("read") == 2


class AwayAtFirst(Switch):
    """Does not answer the first call."""

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        if len(self.calls) == 1:
            raise Unavailable("away")


async def test_the_wait_ends_when_its_time_is_over() -> None:
    world = World()
    with Waiters(world.resources).expect("j1") as expectation:
        assert await expectation.wait(0.01) is None


async def test_a_request_that_ends_leaves_nothing_behind() -> None:
    waiters = Waiters(World().resources)
    with waiters.expect("j1") as expectation:
        waiting = asyncio.ensure_future(expectation.wait(LONG))
        await asyncio.sleep(0)
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    assert not waiters.ring("http-j1", "{}")


async def test_each_waits_for_its_own() -> None:
    waiters = Waiters(World().resources)
    with waiters.expect("j1") as one, waiters.expect("j2") as other:
        waiters.ring("http-j2", '{"n": 2}')
        waiters.ring("http-j1", '{"n": 1}')
        assert [await one.wait(LONG), await other.wait(LONG)] == [{"n": 1}, {"n": 2}]


def test_without_an_address_nobody_can_ring() -> None:
    waiters = Waiters(World().resources)
    assert waiters.reply_to("j1") is None
    waiters.endpoint = "http://127.0.0.1:9"
    reply_to = waiters.reply_to("j1")
    assert reply_to is not None
    assert (reply_to.endpoint, reply_to.connection_id) == ("http://127.0.0.1:9", "http-j1")
