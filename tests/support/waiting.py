"""Waiting in real time for what another thread or process does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(true: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait until something has come about."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.002)


async def eventually(ask: Callable[[], Awaitable[T]], *, seconds: float = 20) -> T:
    """Ask over and over until the answer is true; that answer."""
    async with asyncio.timeout(seconds):
        while not (answer := await ask()):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.05)
    return answer
