"""The worker's own `/health`: whether it can work, and what is missing; and `/live`: whether it is itself well.

What restarts a container should ask `/live`: a restart costs a cold start and cures no outage of the neighbours.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from gpu_runner.links import Link, Links
from pipeline.clients.resources import Resources
from pipeline.errors import Unavailable

HOST = "127.0.0.1"
LATELY_SECONDS = 45.0  # more than the longest poll of an idle queue takes, retries included
PING_SECONDS = 2.0

Phase = Literal["starting", "ready", "draining"]


class CannotListen(Exception):
    """The port of `/health` can't be had; the message says so in one line."""


@dataclass(slots=True)
class Health:
    """What the worker tells of itself."""

    resources: Resources
    links: Links
    in_flight: Callable[[], int] = lambda: 0
    phase: Phase = "starting"
    model: str | None = None

    async def report(self) -> tuple[int, dict[str, object]]:
        """Give the HTTP status and the body of the answer."""
        facts: dict[str, object] = {
            "status": self.phase,
            "backend": self.resources.settings.tts_backend,
            "model": self.model,
            "in_flight": self.in_flight(),
        }
        if self.phase != "ready":
            return 503, facts
        silent = await self._silent()
        return (503, facts | {"status": "unreachable", "unreachable": silent}) if silent else (200, facts)

    def live(self) -> tuple[int, dict[str, object]]:
        """Give the HTTP status and the body of the answer to whoever may restart this worker."""
        return (503 if self.phase == "starting" else 200), {"status": self.phase}

    async def _silent(self) -> list[str]:
        """Name the neighbours that don't answer; only those not heard of lately are asked."""
        asked = [
            (self.links.queue, self.resources.synthesis.ping),
            (self.links.storage, self.resources.bucket.ping),
        ]
        answers = await asyncio.gather(*(_answers(link, ping) for link, ping in asked))
        return [link.name for (link, _), answer in zip(asked, answers, strict=True) if not answer]


async def _answers(link: Link, ping: Callable[[], Awaitable[None]]) -> bool:
    if link.is_up and not link.has_been_silent(LATELY_SECONDS):
        return True
    try:
        async with asyncio.timeout(PING_SECONDS):
            await ping()
    except TimeoutError:
        link.failed(Unavailable(f"The {link.name} did not answer within {PING_SECONDS:g} s."))
    except Unavailable as error:
        link.failed(error)
    else:
        link.answered()
    return link.is_up


@asynccontextmanager
async def serve(health: Health, port: int) -> AsyncIterator[None]:
    """Answer `GET /health` and `GET /live` on this machine for the life of the context; port 0: don't.

    Raises
    ------
    CannotListen
        The port can't be had.
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
            raise CannotListen(f"WORKER_HEALTH_PORT={port} can't be listened on: {error.strerror}.") from error
        yield
    finally:
        await runner.cleanup()


def _answer(status: int, facts: dict[str, object]) -> web.Response:
    return web.json_response(facts, status=status, headers={"Cache-Control": "no-store"})


async def _without_banner(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
