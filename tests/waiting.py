"""Waiting in real time for what another thread or process does."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait until something has come about."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.002)
