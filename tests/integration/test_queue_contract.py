"""The contract of `Queue`, for the fake of the unit tests and for SQS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError
from structlog.testing import capture_logs

from pipeline.clients.queues import Message, Queue, SqsQueue
from pipeline.clients.resources import Resources
from pipeline.errors import Misconfigured, Unavailable
from pipeline.settings import Settings
from tests.support.fakes.clock import FakeTime
from tests.support.fakes.queue import FakeQueue
from tests.support.http_server import override
from tests.support.moto_server import age_messages, provisioned

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

VISIBILITY = 2
LOCALSTACK = [pytest.mark.slow, pytest.mark.xdist_group("localstack")]


@dataclass(frozen=True, slots=True)
class Case:
    """A queue with a visibility timeout of 2 s and at most two deliveries.  `wait` ages its messages."""

    queue: Queue
    dead_letters: Queue
    unreachable: Queue
    wait: Callable[[float], Awaitable[None]]


@pytest.fixture(params=["fake", "sqs", pytest.param("localstack", marks=LOCALSTACK)])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    if request.param == "fake":
        yield _fake()
        return
    settings: Settings = request.getfixturevalue("settings")
    if request.param == "localstack":
        settings = override(settings, aws_endpoint_url=request.getfixturevalue("localstack"))
    settings = override(settings, visibility_timeout_seconds=VISIBILITY, max_receives=2)
    async with provisioned(settings) as resources:
        yield _real(resources, asyncio.sleep if request.param == "localstack" else _ageing(settings))


def _fake() -> Case:
    time = FakeTime()
    dead_letters, unreachable = FakeQueue(time), FakeQueue(time)
    unreachable.switch.is_up = False
    queue = FakeQueue(time, visibility_seconds=VISIBILITY, max_receives=2, dead_letters=dead_letters)
    return Case(queue, dead_letters, unreachable, time.advance)


def _real(resources: Resources, wait: Callable[[float], Awaitable[None]]) -> Case:
    assert isinstance(resources.synthesis, SqsQueue)
    unreachable = SqsQueue(resources.synthesis._client, "no-such-queue")
    return Case(resources.synthesis, resources.synthesis_dead_letters, unreachable, wait)


def _ageing(settings: Settings) -> Callable[[float], Awaitable[None]]:
    async def wait(seconds: float) -> None:
        age_messages(settings, seconds)

    return wait


async def receive(queue: Queue, limit: int = 10, wait: int = 0) -> Sequence[Message]:
    return await queue.receive(limit, wait_seconds=wait)


async def test_send_and_receive(case: Case) -> None:
    await case.queue.send('{"job_id": "ä"}')
    (message,) = await receive(case.queue)
    assert (message.body, message.receive_count) == ('{"job_id": "ä"}', 1)


@pytest.mark.parametrize("turns", range(5))
async def test_cancelled_receive_ends(case: Case, turns: int) -> None:
    await case.queue.send("hidden")
    (message,) = await case.queue.receive(1, wait_seconds=1)
    receiving = asyncio.create_task(case.queue.receive(1, wait_seconds=10))
    await asyncio.sleep(0)
    await case.queue.hide([message.receipt], 60)  # wakes the fake, which still has no visible message
    for _ in range(turns):
        await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait([receiving], timeout=5)
    assert receiving.cancelled()


async def test_group_messages_received_together(case: Case) -> None:
    for number in range(3):
        await case.queue.send(str(number), group="alice")
    await case.queue.send("3", group="bob")
    await case.queue.send("4")
    assert sorted(message.body for message in await receive(case.queue)) == list("01234")


async def test_message_carries_group(resources: Resources) -> None:
    assert isinstance(resources.synthesis, SqsQueue)
    client, url = resources.synthesis._client, await resources.synthesis._find()
    await resources.synthesis.send("one", group="alice")
    answer = await client.receive_message(QueueUrl=url, MessageSystemAttributeNames=["MessageGroupId"])
    assert [message["Attributes"] for message in answer["Messages"]] == [{"MessageGroupId": "alice"}]


@dataclass(slots=True)
class WithoutGroups:
    """A client of a queue service that supports message groups for FIFO queues only."""

    code: str
    largest: int = 100
    accepted: list[str] = field(default_factory=list)
    refused: int = 0

    async def send_message(self, *, QueueUrl: str, MessageBody: str, MessageGroupId: str | None = None) -> None:  # noqa: N803
        if MessageGroupId is not None or len(MessageBody) > self.largest:
            self.refused += 1
            raise ClientError({"Error": {"Code": self.code, "Message": QueueUrl}}, "SendMessage")
        self.accepted.append(MessageBody)


@pytest.mark.parametrize("code", ["InvalidParameterValue", "com.amazonaws.sqs#InvalidParameterValueException"])
async def test_unsupported_groups_remembered(code: str) -> None:
    client = WithoutGroups(code)
    queue = SqsQueue(cast("SQSClient", client), "http://127.0.0.1/queue")
    with capture_logs() as logs:
        for body in ("one", "two", "three"):
            await queue.send(body, group="alice")
    assert (client.accepted, client.refused) == (["one", "two", "three"], 1)
    assert [line["log_level"] for line in logs] == ["warning"]


async def test_rejected_message_keeps_groups_enabled() -> None:
    client = WithoutGroups("InvalidParameterValue")
    queue = SqsQueue(cast("SQSClient", client), "http://127.0.0.1/queue")
    with capture_logs() as logs, pytest.raises(Unavailable):
        await queue.send("x" * 101, group="alice")
    assert logs == []
    assert client.refused == 2


async def test_other_send_error_is_unavailable() -> None:
    client = WithoutGroups("AccessDenied")
    queue = SqsQueue(cast("SQSClient", client), "http://127.0.0.1/queue")
    with pytest.raises(Unavailable):
        await queue.send("x", group="alice")
    assert (client.accepted, client.refused) == ([], 1)


@dataclass(slots=True)
class PartialFailures:
    """A client that fails two entries of each batch, one with a server fault and one with a sender fault."""

    batches: list[list[str]] = field(default_factory=list)

    async def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        self.batches.append([entry["ReceiptHandle"] for entry in Entries])
        failures = {"busy": ("InternalError", False), "stale": ("ReceiptHandleIsInvalid", True)}
        return {
            "Failed": [
                {"Id": entry["Id"], "Code": code, "SenderFault": is_sender_fault, "Message": QueueUrl}
                for entry in Entries
                for receipt, (code, is_sender_fault) in failures.items()
                if entry["ReceiptHandle"] == receipt
            ]
        }

    change_message_visibility_batch = delete_message_batch


@pytest.mark.parametrize("call", [lambda queue, some: queue.delete(some), lambda queue, some: queue.hide(some, 5)])
async def test_batch_returns_retryable_failures(
    call: Callable[[Queue, list[str]], Awaitable[Sequence[str]]],
) -> None:
    client = PartialFailures()
    queue = SqsQueue(cast("SQSClient", client), "http://127.0.0.1/queue")
    receipts = [*map(str, range(10)), "a", "stale", "busy"]
    with capture_logs() as logs:
        assert await call(queue, receipts) == ["busy"]
    assert [receipt for batch in client.batches for receipt in batch] == receipts
    assert [(line["log_level"], line["code"]) for line in logs] == [("warning", "ReceiptHandleIsInvalid")]


async def test_stale_receipt_is_not_retried(case: Case) -> None:
    await case.queue.send("one")
    (message,) = await receive(case.queue)
    await case.queue.delete([message.receipt])
    assert list(await case.queue.delete([message.receipt])) == []
    assert list(await case.queue.hide([message.receipt], 0)) == []


async def test_receive_empty_queue(case: Case) -> None:
    assert list(await receive(case.queue)) == []


async def test_received_message_is_hidden(case: Case) -> None:
    await case.queue.send("one")
    await receive(case.queue)
    assert list(await receive(case.queue)) == []


async def test_message_redelivered_after_timeout(case: Case) -> None:
    await case.queue.send("one")
    (first,) = await receive(case.queue)
    await case.wait(VISIBILITY + 0.2)
    (again,) = await receive(case.queue, wait=5)
    assert (again.id, again.body, again.receive_count) == (first.id, "one", 2)
    assert again.receipt != first.receipt


async def test_deleted_message_not_redelivered(case: Case) -> None:
    await case.queue.send("one")
    (message,) = await receive(case.queue)
    await case.queue.delete([message.receipt])
    await case.wait(VISIBILITY + 0.2)
    assert list(await receive(case.queue)) == []


async def test_hide_extends_visibility_timeout(case: Case) -> None:
    await case.queue.send("one")
    (message,) = await receive(case.queue)
    await case.queue.hide([message.receipt], 2 * VISIBILITY)
    await case.wait(VISIBILITY + 0.5)
    assert list(await receive(case.queue)) == []
    await case.wait(VISIBILITY)
    assert [again.body for again in await receive(case.queue, wait=5)] == ["one"]


async def test_hide_zero_redelivers_at_once(case: Case) -> None:
    await case.queue.send("one")
    (message,) = await receive(case.queue)
    await case.queue.hide([message.receipt], 0)
    assert [again.receive_count for again in await receive(case.queue)] == [2]


async def test_max_receives_moves_to_dead_letters(case: Case) -> None:
    await case.queue.send("poison")
    for _ in range(2):
        (message,) = await receive(case.queue)
        await case.queue.hide([message.receipt], 0)
    assert list(await receive(case.queue)) == []
    assert [dead.body for dead in await receive(case.dead_letters)] == ["poison"]


async def test_receive_respects_limit(case: Case) -> None:
    for number in range(12):
        await case.queue.send(str(number))
    assert len(await receive(case.queue, 3)) == 3
    assert len(await receive(case.queue, 100)) <= 10


async def test_batches_over_ten_entries(case: Case) -> None:
    for number in range(12):
        await case.queue.send(str(number))
    messages = [*await receive(case.queue), *await receive(case.queue)]
    assert sorted(int(message.body) for message in messages) == list(range(12))
    await case.queue.hide([message.receipt for message in messages], 0)
    messages = [*await receive(case.queue), *await receive(case.queue)]
    assert len(messages) == 12
    await case.queue.delete([message.receipt for message in messages])
    await case.wait(VISIBILITY + 0.2)
    assert list(await receive(case.queue)) == []


async def test_missing_queue_is_misconfigured(resources: Resources) -> None:
    assert isinstance(resources.synthesis, SqsQueue)
    with pytest.raises(Misconfigured, match="no-such-queue"):
        await SqsQueue(resources.synthesis._client, "no-such-queue").ping()


async def test_poll_returns_first_message(case: Case) -> None:
    poll = asyncio.create_task(case.queue.receive(10, wait_seconds=20))
    await asyncio.sleep(0.1)
    assert not poll.done()
    await case.queue.send("late")
    async with asyncio.timeout(15):
        assert [message.body for message in await poll] == ["late"]


async def test_poll_of_empty_queue_ends(case: Case) -> None:
    poll = asyncio.create_task(case.queue.receive(10, wait_seconds=1))
    await asyncio.sleep(0.01)
    await case.wait(1)
    async with asyncio.timeout(10):
        assert list(await poll) == []


async def test_depth_counts_visible_messages(case: Case) -> None:
    assert await case.queue.depth() == 0
    for number in range(3):
        await case.queue.send(str(number))
    assert await case.queue.depth() == 3
    await receive(case.queue, 1)
    assert await case.queue.depth() == 2


async def test_ping_existing_queue(case: Case) -> None:
    await case.queue.ping()


async def test_unreachable_queue_is_unavailable(case: Case) -> None:
    calls = [
        case.unreachable.ping(),
        case.unreachable.depth(),
        case.unreachable.send("x"),
        receive(case.unreachable),
        case.unreachable.hide(["r"], 1),
        case.unreachable.delete(["r"]),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            await call
