"""The local server's WebSocket clients, on `/ws`; API Gateway holds them in the cloud."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog
from fastapi import APIRouter, WebSocket, status
from starlette.websockets import WebSocketDisconnect, WebSocketState

from functions.access.access_control import AccessControl
from functions.http import problems
from functions.http.authorized_route import access_control_of
from functions.websocket.dispatch import Dispatcher
from functions.websocket.messages import Message
from pipeline.access.api_keys import Caller
from pipeline.contract.records import ReplyTo
from pipeline.errors import ConnectionGone, PipelineError, Unavailable

log = structlog.get_logger(__name__)

router = APIRouter()

# A client that does not read for so long is as good as gone.
SEND_TIMEOUT_SECONDS = 10.0
# Added to the 58 seconds for which a process may go on trusting a key, this is the minute within which a revocation
# takes effect.
KEY_CHECK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Client:
    """One open connection.  A message is answered in its `turn`, so that what follows from it comes after."""

    address: ReplyTo
    caller: Caller
    socket: WebSocket
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sockets:
    """The open WebSocket connections of this process, by their id."""

    def __init__(self, send_timeout_seconds: float = SEND_TIMEOUT_SECONDS) -> None:
        self.endpoint = ""
        self._send_timeout = send_timeout_seconds
        self._open: dict[str, Client] = {}

    def add(self, socket: WebSocket, caller: Caller) -> Client:
        """Take a connection in and give it an address that nobody can guess."""
        connection_id = secrets.token_urlsafe(16)
        address = ReplyTo(endpoint=self.endpoint, connection_id=connection_id, key_id=caller.key_id)
        client = Client(address, caller, socket)
        self._open[connection_id] = client
        return client

    def remove(self, client: Client) -> None:
        """Let a connection go."""
        self._open.pop(client.address.connection_id, None)

    async def post(self, connection_id: str, text: str) -> bool:
        """Send to a connection; False when it is not there."""
        client = self._open.get(connection_id)
        if client is None:
            return False
        try:
            async with client.turn:
                await self.send(client, text)
        except (WebSocketDisconnect, RuntimeError):
            self.remove(client)
            return False
        return True

    async def send(self, client: Client, text: str) -> None:
        """Send one text frame, to be called in the client's turn.

        Raises
        ------
        WebSocketDisconnect
            The client is gone, or has not read for too long and was let go.
        """
        try:
            async with asyncio.timeout(self._send_timeout):
                await client.socket.send_text(text)
        except TimeoutError:
            log.info("client does not read", connection_id=client.address.connection_id)
            await self.hang_up(client)
            raise WebSocketDisconnect(status.WS_1008_POLICY_VIOLATION) from None

    async def hang_up(self, client: Client, reason: str | None = None) -> None:
        """Close a connection that breaks the rules."""
        self.remove(client)
        with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(self._send_timeout):
                await client.socket.close(status.WS_1008_POLICY_VIOLATION, reason)


@router.websocket("/ws")
async def serve(socket: WebSocket) -> None:
    """Serve one client: messages are answered one after the other, results come in between."""
    sockets, dispatcher, access_control = (
        socket.app.state.sockets,
        socket.app.state.dispatcher,
        access_control_of(socket),
    )
    try:
        address = socket.client.host if socket.client else ""
        ticket = socket.query_params.get("ticket")
        caller = await access_control.authenticate_socket(socket.headers.get("authorization"), ticket, address)
    except PipelineError as error:
        await socket.send_denial_response(problems.of_error(error))
        return
    await socket.accept()
    client = sockets.add(socket, caller)
    log.info("client connected", connection_id=client.address.connection_id, key_id=caller.key_id)
    watching = asyncio.create_task(_hang_up_when_revoked(sockets, access_control, client))
    try:
        async for raw in _frames(socket):
            await _answer(sockets, dispatcher, client, raw)
    except (WebSocketDisconnect, RuntimeError):
        # Starlette says RuntimeError when the client went away while it was being answered.
        pass
    finally:
        watching.cancel()
        sockets.remove(client)
        log.info("client disconnected", connection_id=client.address.connection_id)
        await dispatcher.forget(client.address)


async def _hang_up_when_revoked(sockets: Sockets, access_control: AccessControl, client: Client) -> None:
    while client.caller.key_id is not None:
        await asyncio.sleep(KEY_CHECK_SECONDS)
        with contextlib.suppress(Unavailable):
            if not await access_control.is_key_still_valid(client.caller):
                log.info("key is no longer good", connection_id=client.address.connection_id)
                await sockets.hang_up(client, "The key is no longer good.")
                return


async def _frames(socket: WebSocket) -> AsyncIterator[str | bytes]:
    while socket.application_state is WebSocketState.CONNECTED:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        yield message["bytes"] if text is None else text


async def _answer(sockets: Sockets, dispatcher: Dispatcher, client: Client, raw: str | bytes) -> None:
    async def say(message: Message) -> None:
        try:
            await sockets.send(client, json.dumps(message))
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionGone("The client is gone.") from error

    async with client.turn:
        answer = await dispatcher.answer(client.address, client.caller, raw, say)
        if answer is not None:
            # In ASCII: what it repeats of the client's may be half a surrogate pair, which no frame can hold.
            await sockets.send(client, json.dumps(answer))
