"""The local server's WebSocket clients: `/ws` for them, and the `@connections` route by which others reach them.

API Gateway does both in the cloud.  Here each server process listens for posts on a loopback port of its own, so
that a message finds the very process that holds the connection, however many there are.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from functions.waiting import Waiters
from functions.websocket import MESSAGE_MAX_BYTES, Dispatcher
from pipeline.records import ReplyTo

log = structlog.get_logger(__name__)

router = APIRouter()

# A client that does not read for so long is as good as gone.
SEND_PATIENCE_SECONDS = 10.0


class Sockets:
    """The open WebSocket connections of this process, by their id."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._open: dict[str, tuple[WebSocket, asyncio.Lock]] = {}

    def add(self, socket: WebSocket) -> ReplyTo:
        """Take a connection in and give it an address that nobody can guess."""
        connection_id = secrets.token_urlsafe(16)
        self._open[connection_id] = (socket, asyncio.Lock())
        return ReplyTo(endpoint=self.endpoint, connection_id=connection_id)

    def remove(self, address: ReplyTo) -> None:
        """Let a connection go."""
        self._open.pop(address.connection_id, None)

    def turn(self, address: ReplyTo) -> asyncio.Lock:
        """Give the lock under which a message is answered, so that its answer comes before what follows from it."""
        return self._open[address.connection_id][1]

    async def post(self, connection_id: str, text: str) -> bool:
        """Send to a connection; False when it is not there."""
        if connection_id not in self._open:
            return False
        socket, lock = self._open[connection_id]
        try:
            async with asyncio.timeout(SEND_PATIENCE_SECONDS), lock:
                await send(socket, text)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            self._open.pop(connection_id, None)
            return False
        return True


async def send(socket: WebSocket, text: str) -> None:
    """Send one text frame."""
    await socket.send_text(text)


@router.websocket("/ws")
async def serve(socket: WebSocket) -> None:
    """Serve one client: messages are answered one after the other, results come in between."""
    sockets, dispatcher = socket.app.state.sockets, socket.app.state.dispatcher
    await socket.accept()
    address = sockets.add(socket)
    log.info("client connected", connection_id=address.connection_id)
    try:
        async for raw in _frames(socket):
            await _answer(sockets, dispatcher, socket, address, raw)
    except (WebSocketDisconnect, RuntimeError):
        # Starlette says RuntimeError when the client went away while it was being answered.
        pass
    finally:
        sockets.remove(address)
        log.info("client disconnected", connection_id=address.connection_id)
        await dispatcher.forget(address)


async def _frames(socket: WebSocket) -> AsyncIterator[str | bytes]:
    while socket.application_state is WebSocketState.CONNECTED:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        yield message["bytes"] if text is None else text


async def _answer(
    sockets: Sockets, dispatcher: Dispatcher, socket: WebSocket, address: ReplyTo, raw: str | bytes
) -> None:
    async with sockets.turn(address):
        answer = await dispatcher.answer(address, raw)
        if answer is not None:
            await send(socket, json.dumps(answer, ensure_ascii=False))


@asynccontextmanager
async def listen_for_posts(sockets: Sockets, waiters: Waiters) -> AsyncIterator[None]:
    """Serve `POST /@connections/<id>` as API Gateway does, on a free port of the loopback interface."""

    async def post(request: web.Request) -> web.Response:
        connection_id, text = request.match_info["connection_id"], await request.text()
        delivered = waiters.ring(connection_id, text) or await sockets.post(connection_id, text)
        return web.Response(status=200 if delivered else 410, headers=None if delivered else _GONE)

    application = web.Application(client_max_size=MESSAGE_MAX_BYTES)
    application.router.add_post("/@connections/{connection_id}", post)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        sockets.endpoint = waiters.endpoint = f"http://127.0.0.1:{port}"
        yield
    finally:
        await runner.cleanup()


# By this header botocore knows which of its exceptions to raise (AWS REST-JSON protocol).
_GONE = {"x-amzn-ErrorType": "GoneException"}
