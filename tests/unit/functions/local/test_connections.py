"""The registry of WebSocket connections: a client that does not read delays nobody else."""

import asyncio
from typing import cast

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from functions.local.connections import ConnectionRegistry
from pipeline.access.api_keys import ANONYMOUS


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


async def test_connection_ids_are_random() -> None:
    connections = ConnectionRegistry()
    addresses = {connections.add(FakeSocket().as_socket(), ANONYMOUS).address.connection_id for _ in range(1000)}
    assert len(addresses) == 1000
    assert all(len(address) >= 20 for address in addresses)
