"""Functions are called with batches of queued messages, as Lambda does."""

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pump import Event, EventSourceMapping, Handler
from schedule import seconds_to_next
from structlog.testing import capture_logs

from pipeline.clients.queues import Message, QueueCounts
from pipeline.clients.resources import Resources
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.support.waiting import until


@dataclass
class Queue:
    """A queue whose deliveries a test lays out: batches of ids, or failures to answer."""

    deliveries: asyncio.Queue[Sequence[str] | Unavailable] = field(default_factory=asyncio.Queue)
    deleted: list[list[str]] = field(default_factory=list)
    hidden: list[tuple[str, int]] = field(default_factory=list)
    receives: int = 0

    async def send(self, body: str, *, group: str | None = None) -> None:
        raise AssertionError(body)

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        self.receives += 1
        batch = await self.deliveries.get()
        if isinstance(batch, Unavailable):
            raise batch
        return [Message(id_, f"body of {id_}", f"receipt of {id_}", 2) for id_ in batch]

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        self.deleted.append([receipt.removeprefix("receipt of ") for receipt in receipts])
        return []

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        self.hidden += [(receipt.removeprefix("receipt of "), seconds) for receipt in receipts]
        return []

    async def depth(self) -> int:
        raise AssertionError

    async def counts(self) -> QueueCounts:
        raise AssertionError

    async def ping(self) -> None:
        return


@asynccontextmanager
async def consuming(queue: Queue, handle: Handler, **settings: Any) -> Any:
    resources = cast(Resources, SimpleNamespace(settings=Settings(**settings)))
    task = asyncio.create_task(EventSourceMapping(resources, queue, handle).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_pump_sends_lambda_event() -> None:
    queue, seen = Queue(), list[Event]()

    async def handle(_resources: Resources, event: Event) -> Event:
        seen.append(event)
        return {"batchItemFailures": []}

    async with consuming(queue, handle):
        queue.deliveries.put_nowait(["a"])
        await until(lambda: seen)
    record = {
        "messageId": "a",
        "receiptHandle": "receipt of a",
        "body": "body of a",
        "attributes": {"ApproximateReceiveCount": "2"},
        "eventSource": "aws:sqs",
    }
    assert seen == [{"Records": [record]}]
    assert queue.deleted == [["a"]]


async def test_pump_retries_failed_messages_only() -> None:
    queue = Queue()

    async def handle(_resources: Resources, _event: Event) -> Event:
        return {"batchItemFailures": [{"itemIdentifier": "b"}]}

    async with consuming(queue, handle):
        queue.deliveries.put_nowait(["a", "b", "c"])
        await until(lambda: queue.hidden)
    assert queue.deleted == [["a", "c"]]
    assert queue.hidden == [("b", 2)]


async def test_pump_retries_batch_on_exception() -> None:
    queue = Queue()

    async def handle(_resources: Resources, _event: Event) -> Event:
        raise ValueError("broken")

    async with consuming(queue, handle):
        queue.deliveries.put_nowait(["a", "b"])
        await until(lambda: len(queue.hidden) == 2)
    assert not any(queue.deleted)


async def test_pump_deletes_in_batches() -> None:
    queue = Queue()

    async def handle(_resources: Resources, _event: Event) -> Event:
        return {}

    async with consuming(queue, handle, visibility_timeout_seconds=2):
        for number in range(10):
            queue.deliveries.put_nowait([str(number)])
        await until(lambda: queue.deleted)
        assert [sorted(some) for some in queue.deleted] == [[str(number) for number in range(10)]]
        queue.deliveries.put_nowait(["late"])
        await until(lambda: ["late"] in queue.deleted)


async def test_pump_receives_during_function() -> None:
    queue, started, release = Queue(), list[str](), asyncio.Event()

    async def handle(_resources: Resources, event: Event) -> Event:
        started.append(event["Records"][0]["messageId"])
        await release.wait()
        return {}

    async with consuming(queue, handle):
        queue.deliveries.put_nowait(["slow"])
        queue.deliveries.put_nowait(["next"])
        await until(lambda: started == ["slow", "next"])
        release.set()
    assert sorted(id_ for some in queue.deleted for id_ in some) == ["next", "slow"]


async def test_pump_logs_outage_once() -> None:
    queue, seen = Queue(), list[Event]()

    async def handle(_resources: Resources, event: Event) -> Event:
        seen.append(event)
        return {}

    with capture_logs() as logs:
        async with consuming(queue, handle):
            for _ in range(3):
                queue.deliveries.put_nowait(Unavailable("away"))
            queue.deliveries.put_nowait(["a"])
            await until(lambda: seen)
    assert [line["event"] for line in logs if "the queue is" in line["event"]] == [
        "the queue is unavailable; retrying",
        "the queue is available again",
    ]


@pytest.mark.parametrize(("second", "wait"), [(0, 60), (59, 1), (12.5, 47.5)])
def test_schedule_runs_at_whole_minutes(second: float, wait: float) -> None:
    now = datetime(2026, 1, 2, 3, 4, int(second), int(second % 1 * 1_000_000), tzinfo=UTC)
    assert seconds_to_next(now) == pytest.approx(wait)
