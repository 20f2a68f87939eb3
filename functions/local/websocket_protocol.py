"""WebSockets under uvicorn, with limits: of frames before they are parsed, and of the size and time of messages.

In the cloud, API Gateway limits the size of messages, and the rate of all connections together.
"""

import asyncio
import logging
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from functions.local.frame_limit import FrameLimit, frame_length

_HEADER_MAX_BYTES = 14
_POLICY_VIOLATION = 1008

FRAMES_PER_MINUTE = "websocket_frames_per_minute"
"""The key in the lifespan state for the limit."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that passes frames to the library one at a time, as fast as the limit and the application allow.

    Whatever its client sends, it buffers at most one read and one message, and yields to other connections after at
    most one burst of frames.  Its URL, which may contain a ticket, is not logged.
    """

    message_timeout_seconds = 30.0
    # How long data is discarded after a close frame: closing the socket would lose the frame (RST).
    linger_seconds = 1.0
    slowed_seconds = 20.0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn logs each handshake with its URL at `info`. `telemetry.logs` keeps this logger at `warning`.
        self.logger = logging.getLogger("uvicorn.websocket")
        self._received = bytearray()
        self._limit = FrameLimit(app_state.get(FRAMES_PER_MINUTE, 0), self.slowed_seconds)
        self._delay: asyncio.TimerHandle | None = None
        self._message_timeout: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.conn.eof_sent:
            return  # the connection is closing
        if self.handshake_initiated:
            self._received += data
            self._parse_frames()
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None:
            # The library's response to an invalid handshake; uvicorn would not send it.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._received.clear()
        self._cancel_timers()
        super().connection_lost(exc)

    def handle_parser_exception(self) -> None:
        """Close the connection with the library's close code and reason."""
        assert self.conn.close_sent is not None  # noqa: S101 - set by the library with `parser_exc`
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._cancel_timers()
        self.frames = []
        self._received.clear()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.linger_seconds, self.transport.abort)

    async def send(self, message: ASGISendEvent) -> None:
        """Send one event of the application."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._parse_frames()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # A response instead of a connection ends the handshake too; uvicorn would log an error.
            self.handshake_complete = True
        if message["type"] == "websocket.close" and self.close_timer is not None:
            # uvicorn would wait indefinitely for a client that does not read.
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next event for the application, and allow the frame after it to be parsed."""
        message = await super().receive()
        self._parse_frames()
        return message

    def _parse_frames(self) -> None:
        while not self._is_blocked() and self._is_frame_complete():
            if delay := self._limit.seconds_to_wait(self.loop.time()):
                self._slow_down(delay)
                break
            length = frame_length(self._received)
            frame = bytes(self._received[:length])
            del self._received[:length]
            super().data_received(frame)
        self._update_reading()
        self._update_message_timeout()

    def _is_blocked(self) -> bool:
        """Return whether no frame may be parsed now: the client has to wait, or the application is busy."""
        if self.close_sent:
            return False
        return self._delay is not None or not self.handshake_complete or not self.queue.empty()

    def _is_frame_complete(self) -> bool:
        """Return whether there is a frame to parse: a complete one, or one that already exceeds the limit."""
        length = frame_length(self._received)
        if length is None:
            return False
        return length <= len(self._received) or length > self.config.ws_max_size + _HEADER_MAX_BYTES

    def _slow_down(self, seconds: float) -> None:
        if self._limit.is_exceeded(self.loop.time()):
            self._close("Too many frames; send fewer.")
            return
        self._delay = self.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._delay = None
        self._parse_frames()

    def _update_reading(self) -> None:
        self.read_paused = self._is_blocked()
        if self.read_paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _update_message_timeout(self) -> None:
        """Start the timeout when a message has begun; it ends with the message."""
        has_begun = bool(self.frames or self._received) and not self._is_blocked() and not self.close_sent
        if has_begun and self._message_timeout is None:
            self._message_timeout = self.loop.call_later(self.message_timeout_seconds, self._on_message_timeout)
        elif not has_begun and self._message_timeout is not None:
            self._message_timeout.cancel()
            self._message_timeout = None

    def _on_message_timeout(self) -> None:
        self._close("The message was not finished in time.")

    def _close(self, reason: str) -> None:
        if self.close_sent:
            self.transport.abort()
            return
        self.conn.fail(_POLICY_VIOLATION, reason)
        self.handle_parser_exception()

    def _cancel_timers(self) -> None:
        for timer in (self._delay, self._message_timeout):
            if timer is not None:
                timer.cancel()
        self._delay = self._message_timeout = None
