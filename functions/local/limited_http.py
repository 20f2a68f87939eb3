"""HTTP/1.1 under uvicorn with limits: sizes, timeouts, open connections.

It imports only uvicorn, h11 and the standard library: the embedded AWS uses it in a virtual environment of its own.
"""

import asyncio
import heapq
import socket
import sys
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from functions.local.http_parser import (
    HEADERS_MAX_BYTES,
    URL_MAX_BYTES,
    AmbiguousRequest,
    ChunksTooSmall,
    Connection,
)
from functions.local.lingering import LingeringTransport

_ERRORS = {
    408: ("request_timeout", "The request did not arrive in time; send it again."),
    414: ("uri_too_long", f"The URL is too long; it should have at most {URL_MAX_BYTES // 1024} KB."),
    431: (
        "request_header_fields_too_large",
        f"The headers are too large; they should have at most {HEADERS_MAX_BYTES // 1024} KB.",
    ),
    503: ("too_many_connections", "The service has too many open connections; try again later."),
}
_UNREADABLE = ("bad_request", "This can't be parsed as an HTTP request.")


class LimitedHttpProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose client does not finish a request, or does not read the response.

    It parses a bounded number of events per iteration of the event loop, so that no client delays the others.
    """

    conn: Connection
    connection_class = Connection

    headers_timeout_seconds = 10.0
    # How long, and how many bytes of, the rest of a body are discarded after an early response: a client that is
    # still sending would lose the response if the socket were closed at once (RST).
    linger_seconds = 10.0
    linger_max_bytes = 64 * 1024 * 1024
    read_timeout_seconds = 60.0
    # Above it, a new connection replaces those that are idle longest, or is refused if none is idle.
    max_connections = 8192
    _REPLACED_AT_ONCE = 32

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = self.connection_class()
        self._idle_since = self.loop.time()
        self._next_turn: asyncio.Handle | None = None
        self._times_out_at: float | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._write_check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first request, and apply the limit of open connections."""
        self._lingering = LingeringTransport(
            transport,
            lambda: self.conn.their_state is h11.SEND_BODY,
            self.linger_seconds,
            self.linger_max_bytes,
        )
        super().connection_made(cast(asyncio.Transport, self._lingering))
        if (connection := transport.get_extra_info("socket")) is not None and connection.family in {
            socket.AF_INET,
            socket.AF_INET6,
        }:
            # asyncio does this only for sockets that were created with this protocol.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._update_timeout()
        if len(self.connections) > self.max_connections:
            self._replace_idle_connections()

    def data_received(self, data: bytes) -> None:
        """Parse data, or discard it after an early response."""
        if self._lingering.is_closing():
            self._lingering.discard(data)
            return
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.on_request_begins()
        super().data_received(data)
        self._update_timeout()

    def handle_events(self) -> None:
        """Parse received data. The rest of a long turn is left to the next iteration of the event loop."""
        if self._next_turn is not None:
            return
        self.conn.start_turn()
        super().handle_events()
        if self.conn.is_interrupted and not self._lingering.is_closing():
            self._lingering.hold_reading()
            self._next_turn = self.loop.call_soon(self._start_next_turn)

    def _start_next_turn(self) -> None:
        self._next_turn = None
        self._lingering.release_reading()
        if not self._lingering.is_closing():
            self.handle_events()
            self._update_timeout()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Pass the connection on to the WebSocket protocol."""
        self.transport = self._lingering.transport
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Continue with the next request, which may have been received already."""
        self._idle_since = self.loop.time()
        self.on_request_begins()
        super().on_response_complete()
        self._update_timeout()
        self._start_write_checks()

    def pause_writing(self) -> None:
        """Start the timeout for a client that does not read."""
        super().pause_writing()
        self._start_write_checks()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timeouts."""
        self._lingering.cancel()
        for timer in (self._timeout, self._write_check):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Send an error response to a client that ends its side of the connection in the middle of a body."""
        if self.conn.their_state is h11.SEND_BODY:
            self._send_error(400, "The body is incomplete: it is shorter than its declared length.")

    def on_request_begins(self) -> None:
        """Do something when the first byte of a request arrives, or may have arrived."""

    def error_response(self, status: int, code: str, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the headers and body of an error response."""
        body = f"{code}: {message}\n".encode()
        return [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())], body

    def send_400_response(self, msg: str) -> None:
        """Send an error response for the exception that is being handled."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._send_error(status, str(error) if isinstance(error, AmbiguousRequest | ChunksTooSmall) else None)

    def _replace_idle_connections(self) -> None:
        idle = (
            other
            for other in self.connections
            if isinstance(other, LimitedHttpProtocol)
            and other is not self
            and (other.cycle is None or other.cycle.response_complete)
        )
        replaced = heapq.nsmallest(self._REPLACED_AT_ONCE, idle, key=lambda other: other._idle_since)
        for other in replaced:
            self.connections.discard(other)
            other.transport.abort()
        if not replaced:
            self._send_error(503)

    def _update_timeout(self) -> None:
        """Set the timeout for the client's next request. Received bytes do not restart a running timeout."""
        is_served = self.cycle is not None and not self.cycle.response_complete
        if is_served or self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._times_out_at = None
        elif self._times_out_at is None:
            self._times_out_at = self.loop.time() + self.headers_timeout_seconds
            if self._timeout is None:  # one that is running is extended when it ends, instead of with each request
                self._timeout = self.loop.call_at(self._times_out_at, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timeout = None
        if self._times_out_at is None:
            return
        if self._times_out_at > self.loop.time():
            self._timeout = self.loop.call_at(self._times_out_at, self._on_timeout)
        elif self.conn.trailing_data[0] and not self.transport.is_closing():
            self._send_error(408)
        else:
            self.transport.close()

    def _start_write_checks(self) -> None:
        if self._write_check is None and self.transport.get_write_buffer_size():
            self._check_written(unsent_before=None)

    def _check_written(self, unsent_before: int | None) -> None:
        """Abort if nothing has been sent since the last check."""
        unsent = self.transport.get_write_buffer_size()
        self._write_check = None
        if unsent and unsent == unsent_before:
            self.transport.abort()
        elif unsent:
            self._write_check = self.loop.call_later(self.read_timeout_seconds, self._check_written, unsent)

    def _send_error(self, status: int, reason: str | None = None) -> None:
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            code, message = _ERRORS.get(status, _UNREADABLE)
            headers, body = self.error_response(status, code, reason or message)
            head = h11.Response(
                status_code=status,
                headers=[*self.server_state.default_headers, *headers, (b"connection", b"close")],
                reason=HTTPStatus(status).phrase,
            )
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._lingering.linger()
