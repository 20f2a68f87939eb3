"""One process of a function: settings, logs, event loop and clients, made once before any event.

Lambda gives a process its CPU in full while it starts: what is made there is not waited for by the first event.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from pipeline.clients.resources import Resources, connect
from pipeline.logs import configure_logging
from pipeline.settings import load_settings

T = TypeVar("T")
Event = dict[str, Any]
Handler = Callable[[Event, Any], Any]


@dataclass(frozen=True, slots=True)
class Process:
    """The event loop on which every event of this process is served, and the clients that live on it."""

    loop: asyncio.AbstractEventLoop
    resources: Resources
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)

    def run(self, work: Coroutine[Any, Any, T], **bound: str | None) -> T:
        """Do one event's work, under what is bound to its log lines.

        A task has a copy of the context, so nothing that the work binds is there for the next event.
        """
        with structlog.contextvars.bound_contextvars(**bound):
            return self.loop.run_until_complete(work)


def start(service: str) -> Process:
    """Make the process ready for its events.

    Raises
    ------
    SettingsError
        A value in the environment is wrong; Lambda logs it as the reason why the function does not start.
    """
    settings = load_settings()
    configure_logging(settings, service)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # the one that Mangum finds
    opened = AsyncExitStack()  # never closed: Lambda ends a process without a word
    resources = loop.run_until_complete(opened.enter_async_context(connect(settings)))
    gc.freeze()  # what is there now stays there
    gc.enable()
    return Process(loop, resources, opened)


def serving(process: Process, handle: Callable[[Resources, Event], Awaitable[Any]]) -> Handler:
    """Make the handler of queue batches or of a schedule."""

    async def serve(event: Event) -> Any:
        return await handle(process.resources, event)

    def handler(event: Event, context: Any) -> Any:
        return process.run(serve(event), aws_request_id=context.aws_request_id)

    return handler
