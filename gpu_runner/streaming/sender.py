"""Sends the messages of a stream to one subscriber, at the rate at which it receives them."""

import asyncio
from collections import deque
from itertools import islice

import structlog

from gpu_runner.streaming.posts import Posts
from pipeline.contract.messages.stream_messages import StreamMessage, stream_message
from pipeline.contract.records import Subscriber
from pipeline.errors import ConnectionGone, Unavailable

BUFFER_MESSAGES = 64  # about 20 s of audio
MESSAGES_TOGETHER = 16
CLOSE_TIMEOUT_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Sender:
    """The send queue of a subscriber, in order.

    Only `close` waits for the subscriber, for a limited time: messages for a slow one are buffered up to
    `BUFFER_MESSAGES` and then dropped.
    """

    def __init__(self, posts: Posts, subscriber: Subscriber) -> None:
        self._posts = posts
        self._subscriber = subscriber
        self._buffer: deque[bytes] = deque()
        self._added = asyncio.Event()
        self._is_complete = self._is_closed = self._is_busy = False
        self._omitted = 0
        self._sending = asyncio.create_task(self._send_until_complete())

    def send(self, message: StreamMessage) -> None:
        """Send a message after those before it."""
        if self._is_closed:
            return
        if len(self._buffer) >= BUFFER_MESSAGES:
            self._omitted += 1
            return
        if (request_id := self._subscriber.request_id) is not None:
            message = message.model_copy(update={"request_id": request_id})
        self._buffer.append(stream_message(message))
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
                await self._post_next()
            if self._is_complete:
                return
            self._added.clear()
            await self._added.wait()

    async def _post_next(self) -> None:
        """Send the next messages together. If the client is busy, wait until it has received the next one."""
        to = self._subscriber.reply_to
        together = to.takes_batches and not self._is_busy
        messages = list(islice(self._buffer, MESSAGES_TOGETHER if together else 1))
        try:
            if not together:
                await self._posts.post(to, messages[0])
                self._is_busy = False
            elif not await self._posts.post_unless_busy(to, messages):
                self._is_busy = True
                return
        except ConnectionGone:
            self._stop()
        except (Unavailable, TimeoutError):
            self._omitted += len(messages)
        for _ in range(min(len(messages), len(self._buffer))):
            self._buffer.popleft()
