"""Makes long polls of ministack behave as those of SQS.

- A long poll returns when its message arrives, not at the next of ministack's polls every 100 ms.  A preview passes
  through two queues, so these polls would dominate its latency.
- A long poll whose client has disconnected ends.  Otherwise the poll of a killed worker would receive one more
  message, hidden from others until its visibility timeout.
"""

import asyncio
import threading
import time
from contextvars import ContextVar
from typing import Any

from ministack.core.concurrency import esm_wake
from ministack.services import sqs

from embedded.access.verification import SERVICE
from embedded.asgi import App, Message, Receive, Send

Queue = dict[str, Any]

_polled: ContextVar[Queue] = ContextVar("polled")


class MessageArrivals:
    """Wakes the long polls of a queue when a message arrives; replaces `asyncio` in ministack's SQS."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._waiting: dict[int, tuple[Queue, asyncio.Event]] = {}
        self._set = esm_wake.set
        # Every sender, S3's events included, sets this to wake ministack's own consumers.
        esm_wake.set = self._wake_from_any_thread
        self._get_queue = sqs._get_q
        sqs._get_q = self._get_and_remember
        sqs.asyncio = self

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of `asyncio`; only `sleep` differs."""
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Wait for a message to arrive in the queue that the request polls, for at most `seconds`."""
        queue = _polled.get()
        _, arrived = self._waiting.setdefault(id(queue), (queue, asyncio.Event()))
        try:
            async with asyncio.timeout(seconds):
                await arrived.wait()
        except TimeoutError:
            return

    def _get_and_remember(self, url: str, action: str | None = None) -> Queue:
        queue: Queue = self._get_queue(url, action)
        if action == "sqs:ReceiveMessage":
            _polled.set(queue)
        return queue

    def _wake_from_any_thread(self) -> None:
        self._set()
        if threading.get_ident() == self._thread:
            self._wake()
        else:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        now = time.time()
        for number, (queue, arrived) in list(self._waiting.items()):
            if any(message["visible_at"] <= now for message in queue["messages"]):
                arrived.set()
                del self._waiting[number]


def cancelled_on_disconnect(app: App) -> App:
    """Return the application, with each HTTP request that may wait cancelled when its client disconnects."""

    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_answered_at_once(scope):
            await app(scope, receive, send)
            return
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        forwarding = asyncio.create_task(_forward_until_disconnect(receive, inbox, asyncio.current_task()))
        try:
            await app(scope, inbox.get, send)
        except asyncio.CancelledError:
            if not forwarding.done():  # the server ends
                raise
        finally:
            forwarding.cancel()

    return serve


async def _forward_until_disconnect(
    receive: Receive, inbox: asyncio.Queue[Message], serving: asyncio.Task[Any] | None
) -> None:
    while True:
        message = await receive()
        inbox.put_nowait(message)
        if message["type"] == "http.disconnect":
            if serving is not None:
                serving.cancel()
            return


def _is_answered_at_once(scope: Message) -> bool:
    target: bytes = next((value for name, value in scope["headers"] if name == b"x-amz-target"), b"")
    is_poll = target.endswith(b".ReceiveMessage")
    return scope.get(SERVICE) == "s3" or (target.startswith(b"AmazonSQS.") and not is_poll)
