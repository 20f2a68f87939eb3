"""By when a request has to be answered: set once where it comes in, kept by every call that is made for it.

It travels as the request's context does, from a task to those that it starts.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What is kept back from waiting for a job: time to read its audio and to answer.
ANSWER_SECONDS = 2.5


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


def seconds_to_wait() -> float:
    """Return how long a request may wait for its job and still be answered in time."""
    deadline = _current.get()
    if deadline is None:
        return float("inf")
    return deadline.at - ANSWER_SECONDS - asyncio.get_running_loop().time()
