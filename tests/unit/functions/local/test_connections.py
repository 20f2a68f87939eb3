"""The registry of WebSocket connections: a client that does not read delays nobody else."""

import asyncio
from typing import cast

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from functions.local.connection_posts import PostedMessages
from functions.local.connections import ConnectionRegistry
from functions.previews.completion_waiters import CompletionWaiters
from pipeline.access.api_keys import ANONYMOUS
from pipeline.contract.messages.message_batches import AddressedMessage, Undelivered, to_batch
from pipeline.settings import Settings
from tests.support.fakes.clock import settle
from tests.support.fakes.resources import make_fakes


class FakeSocket:
    base_url = "ws://localhost:8000/"
    """A client that reads, does not read, or has left."""

    def __init__(self, *, reads: bool = True, is_there: bool = True) -> None:
        self.sent: list[str] = []
        self.closed_with: int | None = None
        self.reading = asyncio.Event()
        if reads:
            self.reading.set()
        self._is_there = is_there

    async def send_text(self, text: str) -> None:
        """See `WebSocket.send_text`."""
        if not self._is_there:
            raise WebSocketDisconnect(1006)
        if self.closed_with is not None:
            raise RuntimeError('Cannot call "send" once a close message has been sent.')
        await self.reading.wait()
        self.sent.append(text)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """See `WebSocket.close`."""
        self.closed_with = code

    def as_socket(self) -> WebSocket:
        """Return it, typed as a real one."""
        return cast(WebSocket, self)


async def test_post_reaches_one_connection() -> None:
    connections, one, other = ConnectionRegistry(), FakeSocket(), FakeSocket()
    connection, _ = connections.add(one.as_socket(), ANONYMOUS), connections.add(other.as_socket(), ANONYMOUS)
    assert await connections.post(connection.address.connection_id, b"hello")
    assert (one.sent, other.sent) == (["hello"], [])


async def test_post_to_unknown_connection() -> None:
    connections = ConnectionRegistry()
    connection = connections.add(FakeSocket().as_socket(), ANONYMOUS)
    assert not await connections.post("other", b"hello")
    connections.remove(connection)
    assert not await connections.post(connection.address.connection_id, b"hello")


async def test_post_to_closed_connection() -> None:
    connections, socket = ConnectionRegistry(), FakeSocket(is_there=False)
    connection = connections.add(socket.as_socket(), ANONYMOUS)
    assert not await connections.post(connection.address.connection_id, b"hello")


async def test_client_not_reading_is_closed() -> None:
    connections, socket = ConnectionRegistry(send_timeout_seconds=0.01), FakeSocket(reads=False)
    connection = connections.add(socket.as_socket(), ANONYMOUS)
    connection_id = connection.address.connection_id
    posted = await asyncio.gather(*(connections.post(connection_id, body) for body in (b"a", b"b", b"c")))
    assert posted == [False, False, False]
    assert socket.closed_with == 1008
    assert socket.sent == []


async def test_post_waits_for_response() -> None:
    connections, socket = ConnectionRegistry(send_timeout_seconds=0.01), FakeSocket()
    connection = connections.add(socket.as_socket(), ANONYMOUS)
    async with connection.sending:
        posting = asyncio.ensure_future(connections.post(connection.address.connection_id, b"result"))
        await asyncio.sleep(0.03)
        await connections.send(connection, "answer")
    assert await posting
    assert socket.sent == ["answer", "result"]


async def test_batch_reaches_connections_in_order() -> None:
    connections, sockets = ConnectionRegistry(), [FakeSocket(), FakeSocket()]
    one, other = (connections.add(socket.as_socket(), ANONYMOUS).address.connection_id for socket in sockets)
    undelivered = await deliver(connections, (one, b"1"), (other, b"2"), (one, b"3"), ("unknown", b"4"))
    assert undelivered == Undelivered(gone=frozenset({"unknown"}))
    assert [socket.sent for socket in sockets] == [["1", "3"], ["2"]]


async def test_batch_does_not_wait_for_slow_client() -> None:
    connections, slow, other = ConnectionRegistry(), FakeSocket(reads=False), FakeSocket()
    ids = [connections.add(socket.as_socket(), ANONYMOUS).address.connection_id for socket in (slow, other)]
    assert await deliver(connections, (ids[0], b"1"), (ids[1], b"1")) == Undelivered()
    assert await deliver(connections, (ids[0], b"2"), (ids[1], b"2")) == Undelivered(busy=frozenset(ids[:1]))
    slow.reading.set()
    await settle()
    assert await deliver(connections, (ids[0], b"3"), (ids[1], b"3")) == Undelivered()
    assert (slow.sent, other.sent) == (["1", "3"], ["1", "2", "3"])


async def test_batch_for_closed_connection() -> None:
    connections, socket = ConnectionRegistry(), FakeSocket(is_there=False)
    connection_id = connections.add(socket.as_socket(), ANONYMOUS).address.connection_id
    await deliver(connections, (connection_id, b"1"))
    assert await deliver(connections, (connection_id, b"2")) == Undelivered(gone=frozenset({connection_id}))


async def deliver(connections: ConnectionRegistry, *messages: AddressedMessage) -> Undelivered:
    waiters = CompletionWaiters(make_fakes(Settings()).resources)
    undelivered = PostedMessages(waiters, connections).deliver_batch(to_batch(messages))
    await settle()
    return undelivered


async def test_connection_ids_are_random() -> None:
    connections = ConnectionRegistry()
    addresses = {connections.add(FakeSocket().as_socket(), ANONYMOUS).address.connection_id for _ in range(1000)}
    assert len(addresses) == 1000
    assert all(len(address) >= 20 for address in addresses)
