"""Sends the messages of a stream to one subscriber, at the rate at which it receives them."""

import asyncio
from collections import deque

import structlog

from pipeline.clients.connections import Connections
from pipeline.contract.messages.stream_messages import StreamMessage, stream_message
from pipeline.contract.records import Subscriber
from pipeline.errors import ConnectionGone, Unavailable

BUFFER_MESSAGES = 64  # about 20 s of audio
POST_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Sender:
    """The send queue of a subscriber, in order.

    Only `close` waits for the subscriber, for a limited time: messages for a slow one are buffered up to
    `BUFFER_MESSAGES` and then dropped.
    """

    def __init__(self, connections: Connections, subscriber: Subscriber) -> None:
        self._connections = connections
        self._subscriber = subscriber
        self._buffer: deque[StreamMessage] = deque()
        self._added = asyncio.Event()
        self._is_complete = self._is_closed = False
        self._omitted = 0
        self._sending = asyncio.create_task(self._send_until_complete())

    def send(self, message: StreamMessage) -> None:
        """Send a message after those before it."""
        if self._is_closed:
            return
        if len(self._buffer) >= BUFFER_MESSAGES:
            self._omitted += 1
            return
        self._buffer.append(message.model_copy(update={"request_id": self._subscriber.request_id}))
        self._added.set()

    async def close(self) -> None:
        """Send the remaining messages, for `CLOSE_TIMEOUT_SECONDS` at most."""
        self._is_complete = True
        self._added.set()
        try:
            await asyncio.wait([self._sending], timeout=CLOSE_TIMEOUT_SECONDS)
        finally:
            self.abort()

    def abort(self) -> None:
        """Send nothing more. Idempotent."""
        self._sending.cancel()
        if not self._is_closed and (omitted := self._omitted + len(self._buffer)):
            log.info("client too slow, audio left out of its stream", messages=omitted)
        self._stop()

    def _stop(self) -> None:
        self._is_closed = True
        self._buffer.clear()

    async def _send_until_complete(self) -> None:
        while True:
            while self._buffer:
                await self._post(self._buffer.popleft())
            if self._is_complete:
                return
            self._added.clear()
            await self._added.wait()

    async def _post(self, message: StreamMessage) -> None:
        try:
            async with asyncio.timeout(POST_TIMEOUT_SECONDS):
                await self._connections.post(self._subscriber.reply_to, stream_message(message))
        except ConnectionGone:
            self._stop()
        except (Unavailable, TimeoutError):
            self._omitted += 1
