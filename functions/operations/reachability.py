"""Whether what this process depends on answers."""

import asyncio
import time
from collections.abc import Awaitable, Mapping

from aiohttp import ClientError, ClientSession, ClientTimeout

from pipeline.clients.resources import Resources
from pipeline.errors import Unavailable

PATIENCE_SECONDS = 2.0


async def reach_dependencies(resources: Resources) -> Mapping[str, float | None]:
    """Ask everything at once; how many seconds each took by its name, None for what does not answer."""
    checks = {
        "storage": resources.bucket.ping(),
        "voice storage": resources.voices.ping(),
        "synthesis queue": resources.synthesis.ping(),
    }
    seconds = await asyncio.gather(*(_time_of(check) for check in checks.values()))
    return dict(zip(checks, seconds, strict=True))


async def _time_of(check: Awaitable[None]) -> float | None:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await check
    except (Unavailable, TimeoutError):
        return None
    return time.perf_counter() - began


async def worker_state(url: str | None) -> str | None:
    """Ask the worker how it is; None where there is none to ask."""
    if url is None:
        return None
    try:
        async with ClientSession(timeout=ClientTimeout(PATIENCE_SECONDS)) as client, client.get(url) as answer:
            return str((await answer.json())["status"])
    except (ClientError, TimeoutError, OSError, ValueError, KeyError):
        return "unreachable"
