"""One process of a function: settings, logs, event loop and clients, created once before the first event.

Lambda provides full CPU during initialization, and what is created then does not delay the first event.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from pipeline.clients.resources import Resources, connect
from pipeline.settings import load_settings
from pipeline.telemetry import tracing
from pipeline.telemetry.logs import configure_logging

T = TypeVar("T")
Event = dict[str, Any]
Handler = Callable[[Event, Any], Any]


@dataclass(frozen=True, slots=True)
class Process:
    """The event loop that handles all events of this process, and the clients that are bound to it."""

    loop: asyncio.AbstractEventLoop
    resources: Resources
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)

    def open(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter a context that is never left: Lambda ends a process without notice."""
        return self.loop.run_until_complete(self.opened.enter_async_context(context))

    def run(self, work: Coroutine[Any, Any, T], **bound: str | None) -> T:
        """Run the coroutine of one event, with these values bound to its log lines.

        A task has a copy of the context, so values that the coroutine binds do not persist to the next event.
        """
        with structlog.contextvars.bound_contextvars(**bound):
            try:
                return self.loop.run_until_complete(work)
            finally:
                tracing.flush()  # Lambda freezes the process between events


def start(service: str) -> Process:
    """Initialize the process.

    Raises
    ------
    SettingsError
        A value in the environment is invalid; Lambda logs the error as the reason why initialization failed.
    """
    settings = load_settings()
    configure_logging(settings, service)
    tracing.configure_tracing(settings, service)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum uses the current event loop
    opened = AsyncExitStack()  # never closed: Lambda ends a process without notice
    resources = loop.run_until_complete(opened.enter_async_context(connect(settings)))
    gc.freeze()  # objects that exist now are kept until the process ends
    gc.enable()
    return Process(loop, resources, opened)


def serving(process: Process, handle: Callable[[Resources, Event], Awaitable[Any]]) -> Handler:
    """Return the handler of queue batches or of a schedule."""

    async def serve(event: Event) -> Any:
        return await handle(process.resources, event)

    def handler(event: Event, context: Any) -> Any:
        return process.run(serve(event), aws_request_id=context.aws_request_id)

    return handler
