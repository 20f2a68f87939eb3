"""Messages of several streams in one request."""

import asyncio
from collections.abc import Sequence

import pytest

from gpu_runner.streaming.posts import BATCHES_PER_SECOND, BURST_BATCHES, Posts
from gpu_runner.streaming.sender import Sender
from pipeline.clients import deadlines
from pipeline.contract.messages.message_batches import MAX_MESSAGES, AddressedMessage, Undelivered
from pipeline.contract.messages.stream_messages import StreamStarted
from pipeline.contract.records import ReplyTo, Subscriber
from pipeline.errors import ConnectionGone, Unavailable
from tests.support.fake_service import FakeConnections
from tests.support.fakes.clock import settle


class SlowConnections(FakeConnections):
    """Connections of a process that takes requests while `responds` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.responds = asyncio.Event()
        self.responds.set()
        self.seconds_left: float | None = None

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        await self.responds.wait()
        self.seconds_left = deadlines.seconds_left()
        return await super().post_batch(endpoint, messages)

    async def post(self, to: ReplyTo, body: bytes) -> None:
        await self.responds.wait()
        await super().post(to, body)


@pytest.fixture
async def connections() -> SlowConnections:
    return SlowConnections()


@pytest.fixture
async def pauses() -> list[float]:
    return []


@pytest.fixture
async def posts(connections: SlowConnections, pauses: list[float]) -> Posts:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return Posts(connections, sleep)


def address(connection_id: str, endpoint: str = "http://here") -> ReplyTo:
    return ReplyTo(endpoint=endpoint, connection_id=connection_id, takes_batches=True)


async def test_messages_of_a_process_share_a_request(posts: Posts, connections: SlowConnections) -> None:
    connections.responds.clear()
    sending = [asyncio.create_task(posts.post_unless_busy(address(to), [b"1", b"2"])) for to in "abc"]
    sending.append(asyncio.create_task(posts.post_unless_busy(address("d", "http://there"), [b"1"])))
    await settle()
    later = asyncio.create_task(posts.post_unless_busy(address("e"), [b"3"]))
    connections.responds.set()
    assert await asyncio.gather(*sending, later) == [True] * 5
    assert sorted(connections.batches) == [["a", "a", "b", "b", "c", "c"], ["d"], ["e"]]
    assert [body for to, body in connections.posted if to == "a"] == ["1", "2"]


async def test_messages_wait_for_the_request_before(posts: Posts, connections: SlowConnections) -> None:
    connections.responds.clear()
    first = asyncio.create_task(posts.post_unless_busy(address("a"), [b"1"]))
    await settle()
    others = [asyncio.create_task(posts.post_unless_busy(address(to), [b"1"])) for to in "bc"]
    await settle()
    connections.responds.set()
    await asyncio.gather(first, *others)
    assert connections.batches == [["a"], ["b", "c"]]


async def test_undelivered_messages(posts: Posts, connections: SlowConnections) -> None:
    connections.gone, connections.busy = {"gone"}, {"busy"}
    results = await asyncio.gather(
        *(posts.post_unless_busy(address(to), [b"1"]) for to in ("a", "busy", "gone")), return_exceptions=True
    )
    assert results[:2] == [True, False]
    assert isinstance(results[2], ConnectionGone)


async def test_unreachable_process(posts: Posts, connections: SlowConnections) -> None:
    connections.unreachable = {"a"}
    results = await asyncio.gather(
        *(posts.post_unless_busy(address(to), [b"1"]) for to in "ab"), return_exceptions=True
    )
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    connections.unreachable = set()
    assert await posts.post_unless_busy(address("b"), [b"2"])


async def test_requests_per_second_are_limited(posts: Posts, pauses: list[float]) -> None:
    for _ in range(BURST_BATCHES):
        await posts.post_unless_busy(address("a"), [b"1"])
    assert pauses == []
    await posts.post_unless_busy(address("a"), [b"1"])
    assert pauses == [pytest.approx(1 / BATCHES_PER_SECOND, rel=0.5)]


async def test_large_batches_are_split(posts: Posts, connections: SlowConnections) -> None:
    await asyncio.gather(
        *(posts.post_unless_busy(address(f"{number}"), [b"1"]) for number in range(MAX_MESSAGES + 1)),
        *(posts.post_unless_busy(address("large"), [b"x" * 600_000]) for _ in range(2)),
    )
    assert [len(batch) for batch in connections.batches] == [MAX_MESSAGES, 2, 1]


async def test_cancelled_messages_are_not_sent(posts: Posts, connections: SlowConnections) -> None:
    connections.responds.clear()
    waiting = [asyncio.create_task(posts.post_unless_busy(address("a"), [b"1"]))]
    await settle()
    waiting += [asyncio.create_task(posts.post_unless_busy(address(to), [b"1"])) for to in "bc"]
    await settle()
    waiting[1].cancel()
    connections.responds.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert connections.batches == [["a"], ["c"]]


async def test_request_is_independent_of_its_first_caller(posts: Posts, connections: SlowConnections) -> None:
    with deadlines.within(1):
        assert await posts.post_unless_busy(address("a"), [b"1"])
    assert connections.seconds_left == float("inf")


async def test_sender_sends_messages_together(posts: Posts, connections: SlowConnections) -> None:
    connections.responds.clear()
    sender = Sender(posts, Subscriber(reply_to=address("a"), stream=True))
    for number in range(3):
        sender.send(StreamStarted(job_id="job", take=f"{number}"))
        await settle()
    connections.responds.set()
    await sender.close()
    assert connections.batches == [["a"], ["a", "a"]]
    assert [body.partition('"take":"')[2][0] for _, body in connections.posted] == ["0", "1", "2"]


async def test_sender_waits_for_busy_client(posts: Posts, connections: SlowConnections) -> None:
    connections.busy = {"a"}
    sender = Sender(posts, Subscriber(reply_to=address("a"), stream=True))
    sender.send(StreamStarted(job_id="job", take="0"))
    sender.send(StreamStarted(job_id="job", take="1"))
    await settle()
    await sender.close()
    assert [body.partition('"take":"')[2][0] for _, body in connections.posted] == ["0", "1"]


async def test_sender_stops_for_gone_client(posts: Posts, connections: SlowConnections) -> None:
    connections.gone = {"a"}
    sender = Sender(posts, Subscriber(reply_to=address("a"), stream=True))
    sender.send(StreamStarted(job_id="job", take="0"))
    await settle()
    sender.send(StreamStarted(job_id="job", take="1"))
    await sender.close()
    assert connections.batches == [["a"]]
