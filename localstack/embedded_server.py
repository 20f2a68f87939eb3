"""The embedded AWS itself: ministack, run in an environment of its own by `tethered.py`; see `embedded.py`.

Two things are done on top, so that it behaves as SQS does:

- A long poll returns when its message arrives, not at the next of ministack's looks every 100 ms.  With two queues
  on the way of a preview, these looks would be most of its time.
- A poll whose client is gone ends.  Otherwise the poll of a killed worker would take one more message, which nobody
  would see before its visibility timeout.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from ministack.core.concurrency import esm_wake
from ministack.services import sqs

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Arrivals:
    """Wakes the long polls when a message arrives, from whichever thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived = asyncio.Event()
        self._set = esm_wake.set
        # Every sender, S3's events included, sets this to wake ministack's own consumers.
        esm_wake.set = self._announce
        sqs.asyncio = self

    def __getattr__(self, name: str) -> Any:
        """Stand in for the module `asyncio` in ministack's SQS, but for `sleep`."""
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Wait for a message to arrive, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return

    def _announce(self) -> None:
        self._set()
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()


async def cancelled_with_its_client(scope: Message, receive: Receive, send: Send) -> None:
    """Serve a request for as long as its client is there."""
    if scope["type"] != "http":
        await app(scope, receive, send)
        return
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    serving = asyncio.create_task(app(scope, inbox.get, send))
    listening = asyncio.create_task(_listen(receive, inbox))
    try:
        await asyncio.wait([serving, listening], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    finally:
        listening.cancel()


async def _listen(receive: Receive, inbox: asyncio.Queue[Message]) -> None:
    """Hand on the request; return when its client has gone."""
    while True:
        message = await receive()
        inbox.put_nowait(message)
        if message["type"] == "http.disconnect":
            return


async def main() -> None:
    """Serve until told to stop."""
    Arrivals(asyncio.get_running_loop())
    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.loglevel = os.environ["LOG_LEVEL"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.5
    await serve(cancelled_with_its_client, config)


if __name__ == "__main__":
    asyncio.run(main())
