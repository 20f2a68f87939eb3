"""How the local server listens: uvicorn's protocols, which here wait for nobody for ever and tell no secrets.

In the cloud API Gateway does all of this.
"""

import asyncio
import logging
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from functions.http import problems
from functions.http.middleware.security_headers import HEADERS
from functions.local.http_parser import HEADERS_MAX_BYTES, URL_MAX_BYTES, AmbiguousRequest, Connection
from functions.websocket.dispatch import MESSAGE_MAX_BYTES

# Larger messages than are answered must still be received to be refused, so that the connection lives on.
FRAME_MAX_BYTES = 128 * MESSAGE_MAX_BYTES
PING_SECONDS = 20.0

_REFUSALS = {
    408: ("request_timeout", "The request did not come in time; send it again."),
    414: ("uri_too_long", f"The URL is too long; it should have at most {URL_MAX_BYTES // 1024} KB."),
    431: (
        "request_header_fields_too_large",
        f"The headers are too large; they should have at most {HEADERS_MAX_BYTES // 1024} KB.",
    ),
}
_UNREADABLE = ("bad_request", "This can't be parsed as an HTTP request.")


class PunctualHttp(H11Protocol):
    """HTTP/1.1 that closes the connection of who does not finish a request, or does not read the answer."""

    headers_seconds = 10.0
    # After an early answer the rest of a body is read and dropped for so long: who sends it can't read meanwhile.
    linger_seconds = 30.0
    reader_seconds = 60.0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = Connection()
        self._patience: float | None = None
        self._end: asyncio.TimerHandle | None = None
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        super().on_response_complete()
        self._watch()
        self._watch_reader()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        super().pause_writing()
        self._watch_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._wait_for(None)
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be read, for the reason that is being handled."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(status, str(error) if isinstance(error, AmbiguousRequest) else None)

    def _watch(self) -> None:
        """Let the time run for what the client owes; it does not begin anew with every byte."""
        if self.transport.is_closing():
            self._wait_for(None)
        elif self.conn.their_state is h11.IDLE:
            self._wait_for(self.headers_seconds)
        elif self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete:
            self._wait_for(self.linger_seconds)
        else:
            self._wait_for(None)

    def _wait_for(self, seconds: float | None) -> None:
        if seconds == self._patience:
            return
        if self._end is not None:
            self._end.cancel()
        self._patience = seconds
        self._end = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self.transport.abort()
        elif self.conn.trailing_data[0]:
            self._refuse(408)
        else:
            self.transport.close()

    def _watch_reader(self) -> None:
        if self._next_look is None and self.transport.get_write_buffer_size():
            self._look_again(unread=None)

    def _look_again(self, unread: int | None) -> None:
        """Look whether the client has read on since there was so much left."""
        left = self.transport.get_write_buffer_size()
        self._next_look = None
        if left and left == unread:
            self.transport.abort()
        elif left:
            self._next_look = self.loop.call_later(self.reader_seconds, self._look_again, left)

    def _refuse(self, status: int, reason: str | None = None) -> None:
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            code, message = _REFUSALS.get(status, _UNREADABLE)
            answer = problems.response(status, code, reason or message)
            answer.headers.update({**HEADERS, "Connection": "close"})
            head = h11.Response(
                status_code=status,
                headers=[*self.server_state.default_headers, *answer.raw_headers],
                reason=HTTPStatus(status).phrase,
            )
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class DiscreetWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose address, which may hold a ticket, is not logged."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Its every `info` is of a handshake, with the address; `pipeline.logs` keeps this logger at warnings.
        self.logger = logging.getLogger("uvicorn.websocket")

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # What the library says to a handshake that it can't read; uvicorn would not send it.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        """Send one event of the application's."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # An answer in place of a connection is an end of the handshake too; uvicorn would log an error.
            self.handshake_complete = True


# How uvicorn is started.  Dead clients are found by pings; one that is there may be silent as long as it likes.
OPTIONS: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "http": PunctualHttp,
    "ws": DiscreetWebSocket,
    "ws_max_size": FRAME_MAX_BYTES,
    "ws_ping_interval": PING_SECONDS,
    "ws_ping_timeout": PING_SECONDS,
}
