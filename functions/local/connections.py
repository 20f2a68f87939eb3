"""The open WebSocket connections of this process, and how a message is sent to one."""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog
from fastapi import WebSocket, status
from starlette.websockets import WebSocketDisconnect

from pipeline.access.api_keys import Caller
from pipeline.contract.records import ReplyTo
from pipeline.ids import Clock, utc_now

log = structlog.get_logger(__name__)

SEND_TIMEOUT_SECONDS = 10.0

Delivery = Literal["accepted", "gone", "busy"]


@dataclass(frozen=True, slots=True)
class Connection:
    """One open connection.  `sending` is held until a message has its response; results are sent after it."""

    address: ReplyTo
    caller: Caller
    socket: WebSocket
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)


class ConnectionRegistry:
    """The open connections, by their id.

    Parameters
    ----------
    clock
        Returns the current time.
    send_timeout_seconds
        How long a client may take to read a message before its connection is closed.
    """

    def __init__(self, clock: Clock = utc_now, send_timeout_seconds: float = SEND_TIMEOUT_SECONDS) -> None:
        self.endpoint = ""
        self._clock = clock
        self._send_timeout_seconds = send_timeout_seconds
        self._open: dict[str, Connection] = {}
        self._sending: set[asyncio.Task[bool]] = set()

    def add(self, socket: WebSocket, caller: Caller) -> Connection:
        """Register a connection under a random id."""
        connection_id = secrets.token_urlsafe(16)
        address = ReplyTo(
            endpoint=self.endpoint,
            connection_id=connection_id,
            connected_at=self._clock(),
            key_id=caller.key_id,
            base_url=str(socket.base_url).replace("ws", "http", 1),
            takes_batches=True,
        )
        connection = Connection(address, caller, socket)
        self._open[connection_id] = connection
        return connection

    def remove(self, connection: Connection) -> None:
        """Remove a connection."""
        self._open.pop(connection.address.connection_id, None)

    async def post(self, connection_id: str, body: bytes) -> bool:
        """Send a message to a connection; return whether it exists.

        Raises
        ------
        UnicodeDecodeError
            The connection exists and the message is not UTF-8.
        """
        connection = self._open.get(connection_id)
        return connection is not None and await self._send_all(connection, [body.decode()])

    def post_unless_busy(self, connection_id: str, bodies: Sequence[bytes]) -> Delivery:
        """Begin to send messages to a connection, unless it is busy with an earlier one.

        Raises
        ------
        UnicodeDecodeError
            The connection exists and a message is not UTF-8.
        """
        connection = self._open.get(connection_id)
        if connection is None:
            return "gone"
        if connection.sending.locked():
            return "busy"
        sending = asyncio.create_task(self._send_all(connection, [body.decode() for body in bodies]))
        self._sending.add(sending)  # the event loop keeps weak references only
        sending.add_done_callback(self._sending.discard)
        return "accepted"

    async def _send_all(self, connection: Connection, texts: Sequence[str]) -> bool:
        """Send messages; return whether the connection was open."""
        try:
            async with connection.sending:
                for text in texts:
                    await self.send(connection, text)
        except (WebSocketDisconnect, RuntimeError):
            self.remove(connection)
            return False
        return True

    async def send(self, connection: Connection, text: str) -> None:
        """Send one text frame; the caller holds `connection.sending`.

        Raises
        ------
        WebSocketDisconnect
            The client has disconnected, or did not read in time and was disconnected.
        """
        try:
            async with asyncio.timeout(self._send_timeout_seconds):
                await connection.socket.send_text(text)
        except TimeoutError:
            log.info("client does not read", connection_id=connection.address.connection_id)
            await self.close(connection)
            raise WebSocketDisconnect(status.WS_1008_POLICY_VIOLATION) from None

    async def close(self, connection: Connection, reason: str | None = None) -> None:
        """Close a connection with 1008, policy violation."""
        self.remove(connection)
        with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(self._send_timeout_seconds):
                await connection.socket.close(status.WS_1008_POLICY_VIOLATION, reason)
