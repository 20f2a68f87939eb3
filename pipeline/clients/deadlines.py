"""The deadline of a request: set once when it is received, and applied to every call that is made for it.

It is a context variable, so a task passes it to the tasks that it starts.
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
    """Set the deadline for the code that runs in this context, in seconds from now."""
    deadline = Deadline(asyncio.get_running_loop().time() + seconds)
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)


def timeout() -> asyncio.Timeout:
    """Return a context manager that raises `TimeoutError` at the deadline, if there is one."""
    deadline = _current.get()
    return asyncio.timeout_at(deadline.at if deadline else None)


def seconds_left() -> float:
    """Return the time until the deadline, or infinity if there is none."""
    deadline = _current.get()
    return deadline.at - asyncio.get_running_loop().time() if deadline else inf
