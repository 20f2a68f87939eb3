"""Makes long polls of ministack behave as those of SQS.

- A long poll returns when its message arrives, not at the next of ministack's polls every 100 ms.  A preview passes
  through two queues, so these polls would dominate its latency.
- A long poll whose client has disconnected ends.  Otherwise the poll of a killed worker would receive one more
  message, hidden from others until its visibility timeout.
"""

import asyncio
from typing import Any

from ministack.core.concurrency import esm_wake
from ministack.services import sqs

from embedded.asgi import App, Message, Receive, Send


class MessageArrivals:
    """Wakes the long polls when a message arrives, from any thread; replaces `asyncio` in ministack's SQS."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived = asyncio.Event()
        self._set = esm_wake.set
        # Every sender, S3's events included, sets this to wake ministack's own consumers.
        esm_wake.set = self._wake_from_any_thread
        sqs.asyncio = self

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of `asyncio`; only `sleep` differs."""
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Wait for a message to arrive, for at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return

    def _wake_from_any_thread(self) -> None:
        self._set()
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()


def cancelled_on_disconnect(app: App) -> App:
    """Return the application, with each HTTP request cancelled when its client disconnects."""

    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        serving = asyncio.create_task(app(scope, inbox.get, send))
        forwarding = asyncio.create_task(_forward_until_disconnect(receive, inbox))
        try:
            await asyncio.wait([serving, forwarding], return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        finally:
            forwarding.cancel()

    return serve


async def _forward_until_disconnect(receive: Receive, inbox: asyncio.Queue[Message]) -> None:
    while True:
        message = await receive()
        inbox.put_nowait(message)
        if message["type"] == "http.disconnect":
            return
