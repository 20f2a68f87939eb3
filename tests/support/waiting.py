"""Waiting in real time for other threads and processes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(true: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait until the condition is true."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.002)


async def eventually(call: Callable[[], Awaitable[T]], *, seconds: float = 40) -> T:
    """Repeat a call until its result is true, and return the result."""
    async with asyncio.timeout(seconds):
        while not (answer := await call()):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.05)
    return answer
