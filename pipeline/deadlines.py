"""By when a request has to be answered: set once where it comes in, kept by every call that is made for it.

It travels as the request's context does, from a task to those that it starts.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf


class Deadline:
    """A moment on the event loop's clock."""

    def __init__(self, at: float) -> None:
        self.at = at


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def within(seconds: float) -> Iterator[Deadline]:
    """Set the deadline of what runs in this context: so many seconds from now."""
    deadline = Deadline(asyncio.get_running_loop().time() + seconds)
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)


def timeout() -> asyncio.Timeout:
    """Bound the block that is entered with it: `TimeoutError` is raised at the deadline, if there is one."""
    deadline = _current.get()
    return asyncio.timeout_at(deadline.at if deadline else None)


def seconds_left() -> float:
    """Return how long it is until the deadline; infinity where there is none."""
    deadline = _current.get()
    return deadline.at - asyncio.get_running_loop().time() if deadline else inf
