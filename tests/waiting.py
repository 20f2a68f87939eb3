"""Waiting in real time for what another thread or process does."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(true: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait until something has come about."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


async def eventually(ask: Callable[[], Awaitable[T]], *, seconds: float = 20) -> T:
    """Ask over and over until the answer is true; that answer."""
    async with asyncio.timeout(seconds):
        while not (answer := await ask()):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.05)
    return answer


def free_port() -> int:
    """Find a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
