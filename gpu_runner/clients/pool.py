"""The worker's side: clients that call in other processes."""

import asyncio
import itertools
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import structlog

from gpu_runner.clients.frames import Call, Cancel, Channel, Client, Ready, Return
from pipeline.clients.queues import Queue
from pipeline.clients.resources import Resources
from pipeline.clients.storage import Bucket, ObjectInfo
from pipeline.errors import Unavailable
from pipeline.settings import Settings

RESTART_SECONDS = 1.0
BUCKET_METHODS = frozenset({"get", "read", "head", "put", "put_once", "replace", "delete", "ping"})
QUEUE_METHODS = frozenset({"send", "receive", "delete", "hide", "depth", "ping"})

log = structlog.get_logger(__name__)


@asynccontextmanager
async def in_processes(resources: Resources, count: int) -> AsyncIterator[Resources]:
    """Return the resources with the worker's clients in `count` processes, for the life of the context."""
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_running(resources.settings)) for _ in range(count)]
        turns = itertools.cycle(processes)
        yield replace(
            resources,
            bucket=cast("Bucket", _Remote(turns, "bucket", BUCKET_METHODS)),
            voices=cast("Bucket", _Remote(turns, "voices", BUCKET_METHODS)),
            synthesis=cast("Queue", _Remote(turns, "synthesis", QUEUE_METHODS)),
        )


class _Remote:
    """A client in the processes, to which calls are distributed round-robin."""

    def __init__(self, turns: "Iterator[ClientProcess]", client: Client, methods: frozenset[str]) -> None:
        self._turns = turns
        self._client = client
        self._methods = methods

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """See `Bucket.list`; the whole list is transferred at once."""
        for item in await next(self._turns).call(self._client, "list", prefix, start_after=start_after):
            yield item

    def __getattr__(self, name: str) -> Any:
        if name not in self._methods:
            raise AttributeError(f"{name} can't be called in other processes")
        return partial(next(self._turns).call, self._client, name)


class ClientProcess:
    """One process; it is started again when it ends, and until then calls raise `Unavailable`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel: Channel | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count()
        self.ready = asyncio.Event()

    async def call(self, client: Client, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a client's method in the process.

        Raises
        ------
        Unavailable
            The process has ended; the method's own exceptions are raised too.
        """
        if self._channel is None:
            raise Unavailable("The process that calls the storage and the queue is being started.")
        id_, result = next(self._ids), asyncio.get_running_loop().create_future()
        self._calls[id_] = result
        self._channel.send(Call(id_, client, method, args, kwargs))
        try:
            return await result
        except asyncio.CancelledError:
            if self._channel is not None:
                self._channel.send(Cancel(id_))
            raise
        finally:
            del self._calls[id_]

    async def run(self) -> None:
        """Keep the process running until this is cancelled."""
        while True:
            await self._run_once()
            log.error("client process ended, restarting it")
            await asyncio.sleep(RESTART_SECONDS)

    async def _run_once(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gpu_runner.clients.process", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
            )
        channel = await Channel.open(ours)
        try:
            channel.send(self._settings)
            while (frame := await channel.receive()) is not None:
                self._handle(frame, channel)
        finally:
            self._channel = None
            self._fail_calls()
            channel.close()
            await process.wait()

    def _handle(self, frame: Ready | Return, channel: Channel) -> None:
        if isinstance(frame, Ready):
            self._channel = channel
            self.ready.set()
            return
        call = self._calls.get(frame.id)
        if call is None or call.done():
            return
        if frame.error is None:
            call.set_result(frame.value)
        else:
            call.set_exception(frame.error)

    def _fail_calls(self) -> None:
        for call in self._calls.values():
            if not call.done():
                call.set_exception(Unavailable("The process that calls the storage and the queue ended."))


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[ClientProcess]:
    process = ClientProcess(settings)
    running = asyncio.create_task(process.run())
    ready = asyncio.create_task(process.ready.wait())
    try:
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield process
    finally:
        for task in (running, ready):
            task.cancel()
        await asyncio.gather(running, ready, return_exceptions=True)
