"""The connections that the local server holds: who does not read holds nobody up."""

import asyncio
from typing import cast

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from functions.local.sockets import Sockets
from pipeline.access.api_keys import ANONYMOUS


class FakeSocket:
    """A client that reads, does not read, or has gone."""

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
        """Pass for a real one."""
        return cast(WebSocket, self)


async def test_a_post_reaches_its_client() -> None:
    sockets, one, other = Sockets(), FakeSocket(), FakeSocket()
    client, _ = sockets.add(one.as_socket(), ANONYMOUS), sockets.add(other.as_socket(), ANONYMOUS)
    assert await sockets.post(client.address.connection_id, "hello")
    assert (one.sent, other.sent) == (["hello"], [])


async def test_nobody_is_there_under_another_id() -> None:
    sockets = Sockets()
    client = sockets.add(FakeSocket().as_socket(), ANONYMOUS)
    assert not await sockets.post("other", "hello")
    sockets.remove(client)
    assert not await sockets.post(client.address.connection_id, "hello")


async def test_who_has_gone_is_gone() -> None:
    sockets, socket = Sockets(), FakeSocket(is_there=False)
    client = sockets.add(socket.as_socket(), ANONYMOUS)
    assert not await sockets.post(client.address.connection_id, "hello")


async def test_who_does_not_read_is_let_go() -> None:
    sockets, socket = Sockets(send_timeout_seconds=0.01), FakeSocket(reads=False)
    client = sockets.add(socket.as_socket(), ANONYMOUS)
    posted = await asyncio.gather(*(sockets.post(client.address.connection_id, text) for text in "abc"))
    assert posted == [False, False, False]
    assert socket.closed_with == 1008
    assert socket.sent == []


async def test_an_answer_that_takes_its_time_does_not_cost_the_client_its_results() -> None:
    sockets, socket = Sockets(send_timeout_seconds=0.01), FakeSocket()
    client = sockets.add(socket.as_socket(), ANONYMOUS)
    async with client.turn:
        posting = asyncio.ensure_future(sockets.post(client.address.connection_id, "result"))
        await asyncio.sleep(0.03)
        await sockets.send(client, "answer")
    assert await posting
    assert socket.sent == ["answer", "result"]


async def test_no_two_connections_have_the_same_address() -> None:
    sockets = Sockets()
    addresses = {sockets.add(FakeSocket().as_socket(), ANONYMOUS).address.connection_id for _ in range(1000)}
    assert len(addresses) == 1000
    assert all(len(address) >= 20 for address in addresses)
