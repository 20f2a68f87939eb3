"""The worker's `/health` (readiness, dependencies included) and `/live` (liveness, the worker alone).

A container's health check should use `/live`: a restart costs a cold start and does not end an outage elsewhere.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from gpu_runner.dependency_health import Dependencies, DependencyHealth
from pipeline.clients.resources import Resources
from pipeline.errors import Unavailable

HOST = "127.0.0.1"
STALE_SECONDS = 45.0  # longer than an idle queue's longest poll with its retries
PING_SECONDS = 2.0

Phase = Literal["starting", "ready", "draining"]


class CannotListen(Exception):
    """The port of `/health` is not available. The message is one line."""


@dataclass(slots=True)
class Health:
    """The state that the worker reports."""

    resources: Resources
    dependencies: Dependencies
    in_flight: Callable[[], int] = lambda: 0
    phase: Phase = "starting"
    model: str | None = None

    async def report(self) -> tuple[int, dict[str, object]]:
        """Return the HTTP status and body of `/health`."""
        facts: dict[str, object] = {
            "status": self.phase,
            "backend": self.resources.settings.tts_backend,
            "model": self.model,
            "in_flight": self.in_flight(),
        }
        if self.phase != "ready":
            return 503, facts
        unavailable = await self._unavailable()
        return (503, facts | {"status": "unreachable", "unreachable": unavailable}) if unavailable else (200, facts)

    def live(self) -> tuple[int, dict[str, object]]:
        """Return the HTTP status and body of `/live`."""
        return (503 if self.phase == "starting" else 200), {"status": self.phase}

    async def _unavailable(self) -> list[str]:
        """Return the names of the dependencies that do not answer. Only stale ones are pinged."""
        asked = [
            (self.dependencies.queue, self.resources.synthesis.ping),
            (self.dependencies.storage, self.resources.bucket.ping),
        ]
        answers = await asyncio.gather(*(_answers(health, ping) for health, ping in asked))
        return [health.name for (health, _), answer in zip(asked, answers, strict=True) if not answer]


async def _answers(health: DependencyHealth, ping: Callable[[], Awaitable[None]]) -> bool:
    if health.is_up and not health.is_stale(STALE_SECONDS):
        return True
    try:
        async with asyncio.timeout(PING_SECONDS):
            await ping()
    except TimeoutError:
        health.failed(Unavailable(f"The {health.name} did not answer within {PING_SECONDS:g} s."))
    except Unavailable as error:
        health.failed(error)
    else:
        health.succeeded()
    return health.is_up


@asynccontextmanager
async def serve(health: Health, port: int) -> AsyncIterator[None]:
    """Serve `GET /health` and `GET /live` on the loopback interface for the life of the context. Port 0: do not.

    Raises
    ------
    CannotListen
        The port is not available.
    """
    if port == 0:
        yield
        return

    async def report(_request: web.Request) -> web.Response:
        return _answer(*await health.report())

    async def live(_request: web.Request) -> web.Response:
        return _answer(*health.live())

    app = web.Application()
    app.add_routes([web.get("/health", report), web.get("/live", live)])
    app.on_response_prepare.append(_without_banner)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            raise CannotListen(f"WORKER_HEALTH_PORT={port} is not available: {error.strerror}.") from error
        yield
    finally:
        await runner.cleanup()


def _answer(status: int, facts: dict[str, object]) -> web.Response:
    return web.json_response(facts, status=status, headers={"Cache-Control": "no-store"})


async def _without_banner(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
