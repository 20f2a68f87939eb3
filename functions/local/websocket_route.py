"""The local server's `/ws`, which corresponds to API Gateway's routes in the cloud."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack

import structlog
from fastapi import APIRouter, WebSocket
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect, WebSocketState

from functions.access.access_control import AccessControl
from functions.http.responses import problems
from functions.http.services import services_of
from functions.local.connections import Connection, ConnectionRegistry
from functions.websocket.dispatch import Dispatcher
from functions.websocket.server_messages import Message
from pipeline.access.api_keys import Caller
from pipeline.errors import ConnectionGone, PipelineError, Unavailable

log = structlog.get_logger(__name__)

router = APIRouter()

# With the 50 seconds for which a key is cached and the 8 that a look-up may take, this is the minute within which a
# revocation takes effect.
KEY_CHECK_SECONDS = 2.0


@router.websocket("/ws")
async def serve(socket: WebSocket) -> None:
    """Serve one client, if it is authorized."""
    limits = services_of(socket).connection_limits
    address = socket.client.host if socket.client else ""
    with ExitStack() as counted:
        try:
            counted.enter_context(limits.of_address(address))
            caller = await _authenticate(socket, address)
            counted.enter_context(limits.of_key(caller.key_id))
        except PipelineError as error:
            await socket.send_denial_response(problems.of_error(error))
            return
        await _serve(socket, caller)


@router.get("/ws", include_in_schema=False)
def require_upgrade() -> Response:
    """Return 426 for a request that is not a WebSocket handshake."""
    response = problems.response(426, "upgrade_required", "This is a WebSocket; open it with a WebSocket client.")
    response.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
    return response


async def _authenticate(socket: WebSocket, address: str) -> Caller:
    authorization, ticket = socket.headers.get("authorization"), socket.query_params.get("ticket")
    return await services_of(socket).access_control.authenticate_socket(authorization, ticket, address)


async def _serve(socket: WebSocket, caller: Caller) -> None:
    """Handle messages one after the other; results are sent in between."""
    access_control = services_of(socket).access_control
    connections: ConnectionRegistry = socket.app.state.connections
    dispatcher: Dispatcher = socket.app.state.dispatcher
    await socket.accept()
    connection = connections.add(socket, caller)
    log.info("client connected", connection_id=connection.address.connection_id, key_id=caller.key_id)
    key_check = asyncio.create_task(_close_when_revoked(connections, access_control, connection))
    try:
        async for raw in _messages(socket):
            await _respond(connections, dispatcher, connection, raw)
            await asyncio.sleep(0)  # the calls above may not suspend; let other tasks run
    except (WebSocketDisconnect, RuntimeError):
        # Starlette raises RuntimeError if the client disconnects before the response is sent.
        pass
    finally:
        key_check.cancel()
        connections.remove(connection)
        log.info("client disconnected", connection_id=connection.address.connection_id)
        await dispatcher.forget(connection.address)


@router.websocket("/{path:path}")
async def refuse(socket: WebSocket) -> None:
    """Refuse a WebSocket on any other path."""
    await socket.send_denial_response(
        problems.response(404, "not_found", "This is not the path of the WebSocket, which is /ws.")
    )


async def _close_when_revoked(
    connections: ConnectionRegistry, access_control: AccessControl, connection: Connection
) -> None:
    while connection.caller.key_id is not None:
        await asyncio.sleep(KEY_CHECK_SECONDS)
        with contextlib.suppress(Unavailable):
            if not await access_control.is_key_still_valid(connection.caller):
                log.info("key is no longer valid", connection_id=connection.address.connection_id)
                await connections.close(connection, "The key is no longer valid.")
                return


async def _messages(socket: WebSocket) -> AsyncIterator[str | bytes]:
    while socket.application_state is WebSocketState.CONNECTED:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        yield message["bytes"] if text is None else text


async def _respond(
    connections: ConnectionRegistry, dispatcher: Dispatcher, connection: Connection, raw: str | bytes
) -> None:
    async def send(message: Message) -> None:
        try:
            await connections.send(connection, json.dumps(message))
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionGone("The client has disconnected.") from error

    async with connection.sending:
        response = await dispatcher.handle(connection.address, connection.caller, raw, send)
        if response is not None:
            await connections.send(connection, json.dumps(response))
