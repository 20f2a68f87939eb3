"""Messages in hand: the newest receipt counts, what ended is deleted, and an outage delays no more than it must."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gpu_runner.dependency_health import DependencyHealth
from gpu_runner.queue.deliveries import Deliveries
from pipeline.clients.queues import Message
from tests.support.fakes.clock import FakeTime, settle
from tests.support.fakes.queue import FakeQueue


def deliveries_of(queue: FakeQueue, time: FakeTime) -> Deliveries:
    return Deliveries(queue, DependencyHealth("queue", time), visibility_seconds=60, sleep=time.sleep)


@asynccontextmanager
async def running(deliveries: Deliveries) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(deliveries.extend_forever()), asyncio.create_task(deliveries.settle_forever())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def received(queue: FakeQueue) -> Message:
    (message,) = await queue.receive(1, wait_seconds=0)
    return message


async def test_newest_receipt_deletes() -> None:
    time = FakeTime()
    queue = FakeQueue(time, visibility_seconds=60)
    deliveries = deliveries_of(queue, time)
    await queue.send("a")
    delivery = deliveries.hold("a", await received(queue))
    assert delivery is not None
    await time.advance(60)
    assert deliveries.hold("a", await received(queue)) is None
    deliveries.complete(delivery)
    await deliveries.flush()
    assert queue.bodies == []


async def test_both_messages_deleted() -> None:
    time = FakeTime()
    queue = FakeQueue(time)
    deliveries = deliveries_of(queue, time)
    await queue.send("a")
    await queue.send("a")
    delivery = deliveries.hold("a", await received(queue))
    assert delivery is not None
    deliveries.hold("a", await received(queue))
    deliveries.complete(delivery)
    await deliveries.flush()
    assert queue.bodies == []


async def test_redelivery_before_deletion() -> None:
    time = FakeTime()
    queue = FakeQueue(time)
    deliveries = deliveries_of(queue, time)
    await queue.send("a")
    delivery = deliveries.hold("a", await received(queue))
    assert delivery is not None
    deliveries.complete(delivery)
    await queue.send("a")
    assert deliveries.hold("a", await received(queue)) is None
    await deliveries.flush()
    assert queue.bodies == []


async def test_deletion_waits_one_second() -> None:
    time = FakeTime()
    queue = FakeQueue(time)
    deliveries = deliveries_of(queue, time)
    async with running(deliveries):
        for name in ("a", "b"):
            await queue.send(name)
            delivery = deliveries.hold(name, await received(queue))
            assert delivery is not None
            deliveries.complete(delivery)
        await time.advance(0.9)
        assert queue.bodies == ["a", "b"]
        await time.advance(0.1)
        assert queue.bodies == []
        assert queue.switch.count("delete") == 1


async def test_completed_stays_hidden() -> None:
    time = FakeTime()
    queue = FakeQueue(time, visibility_seconds=60)
    deliveries = deliveries_of(queue, time)
    await queue.send("a")
    delivery = deliveries.hold("a", await received(queue))
    assert delivery is not None
    async with running(deliveries):
        deliveries.complete(delivery)
        queue.switch.is_up = False
        await time.advance(40)
        assert queue.switch.count("delete") < 10
        queue.switch.is_up = True
        await time.advance(30)
        assert queue.bodies == []


async def test_partial_extension_retried() -> None:
    time = FakeTime()
    queue = FakeQueue(time, visibility_seconds=50)
    deliveries = deliveries_of(queue, time)
    for name in ("a", "b"):
        await queue.send(name)
        deliveries.hold(name, await received(queue))
    queue.failing = {"b"}
    async with running(deliveries):
        await time.advance(45)
        queue.failing.clear()
        await time.advance(10)
        assert queue.visible == []


async def test_partial_deletion_retried() -> None:
    time = FakeTime()
    queue = FakeQueue(time, visibility_seconds=60)
    deliveries = deliveries_of(queue, time)
    for name in ("a", "b"):
        await queue.send(name)
        delivery = deliveries.hold(name, await received(queue))
        assert delivery is not None
        deliveries.complete(delivery)
    queue.failing = {"b"}
    async with running(deliveries):
        await time.advance(5)
        assert queue.bodies == ["b"]
        queue.failing.clear()
        await time.advance(30)
        assert queue.bodies == []
        assert deliveries.are_settled


async def test_partial_return_retried() -> None:
    time = FakeTime()
    queue = FakeQueue(time, visibility_seconds=60)
    deliveries = deliveries_of(queue, time)
    for name in ("a", "b"):
        await queue.send(name)
        delivery = deliveries.hold(name, await received(queue))
        assert delivery is not None
        deliveries.return_to_queue(delivery)
    queue.failing = {"b"}
    async with running(deliveries):
        await time.advance(5)
        assert queue.visible == ["a"]
        queue.failing.clear()
        await time.advance(30)
        assert queue.visible == ["a", "b"]


async def test_return_is_immediate_with_delay() -> None:
    time = FakeTime()
    queue = FakeQueue(time, visibility_seconds=60)
    deliveries = deliveries_of(queue, time)
    await queue.send("a")
    delivery = deliveries.hold("a", await received(queue))
    assert delivery is not None
    async with running(deliveries):
        deliveries.return_to_queue(delivery, after_seconds=4)
        await settle()
        await time.advance(3.9)
        assert queue.visible == []
        await time.advance(0.1)
        assert queue.visible == ["a"]
        await time.advance(120)
        assert queue.visible == ["a"]


async def test_flush_deletes_and_returns() -> None:
    time = FakeTime()
    queue = FakeQueue(time)
    deliveries = deliveries_of(queue, time)
    for name in ("a", "b"):
        await queue.send(name)
    ended = deliveries.hold("a", await received(queue))
    assert ended is not None
    deliveries.hold("b", await received(queue))
    deliveries.complete(ended)
    await deliveries.flush()
    assert (queue.bodies, queue.visible) == (["b"], ["b"])


async def test_flush_during_outage() -> None:
    time = FakeTime()
    queue = FakeQueue(time)
    deliveries = deliveries_of(queue, time)
    await queue.send("a")
    deliveries.hold("a", await received(queue))
    queue.switch.is_up = False
    await deliveries.flush()
    await time.advance(60)
    assert queue.visible == ["a"]


class SlowQueue(FakeQueue):
    """One whose `hide` takes until the test lets it go on."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__(time)
        self.lets_hide = asyncio.Event()

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        taken = tuple(receipts)
        await self.lets_hide.wait()
        return await super().hide(taken, seconds)


async def test_return_during_settlement() -> None:
    time = FakeTime()
    queue = SlowQueue(time)
    deliveries = deliveries_of(queue, time)
    for name in ("a", "b"):
        await queue.send(name)
    first, second = [deliveries.hold(name, await received(queue)) for name in ("a", "b")]
    assert first is not None
    assert second is not None
    async with running(deliveries):
        deliveries.return_to_queue(first)
        await settle()
        deliveries.return_to_queue(second)
        queue.lets_hide.set()
        await settle()
        assert queue.visible == ["a", "b"]


async def test_nothing_is_extended_while_idle() -> None:
    time, waits = FakeTime(), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await time.sleep(seconds)

    queue = FakeQueue(time, visibility_seconds=60)
    deliveries = Deliveries(queue, DependencyHealth("queue", time), visibility_seconds=60, sleep=sleep)
    async with running(deliveries):
        await time.advance(120)
        assert waits == []
        await queue.send("a")
        deliveries.hold("a", await received(queue))
        await time.advance(100)
        assert set(waits) == {20.0}
        assert queue.visible == []
