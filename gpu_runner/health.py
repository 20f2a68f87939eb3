"""The worker's `/health` (readiness, dependencies included) and `/live` (liveness, the worker alone).

A container's health check should use `/live`: a restart costs a cold start and does not end an outage elsewhere.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from gpu_runner.dependency_health import Dependencies, DependencyHealth
from pipeline.clients.resources import Resources
from pipeline.contract.engines import EngineStart
from pipeline.errors import Unavailable

HOST = "127.0.0.1"
STALE_SECONDS = 45.0  # longer than an idle queue's longest poll with its retries
PING_SECONDS = 2.0
CONNECTIONS_MAX = 64
CONNECTION_SECONDS = 5.0
HEAD_MAX_BYTES = 8 * 1024

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
    engine_start: EngineStart = field(default_factory=EngineStart)

    async def report(self) -> tuple[int, dict[str, object]]:
        """Return the HTTP status and body of `/health`."""
        facts: dict[str, object] = {
            "status": self.phase,
            "backend": self.resources.settings.tts_backend,
            "model": self.model,
            "in_flight": self.in_flight(),
        }
        if self.phase == "starting":
            return 503, facts | {"engine_start": self.engine_start.model_dump(exclude_none=True)}
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


class _Listener:
    """Serves one request per connection.  A new connection above the limit replaces the oldest one."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._open: dict[asyncio.StreamWriter, None] = {}  # in the order of their beginning

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, within the time limit."""
        self._open[writer] = None
        if len(self._open) > CONNECTIONS_MAX:
            self._abort(next(iter(self._open)))
        try:
            async with asyncio.timeout(CONNECTION_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._response(head))
                await writer.drain()
        except (TimeoutError, EOFError, ConnectionError, asyncio.LimitOverrunError):
            pass  # an incomplete or invalid request has no response
        finally:
            self._open.pop(writer, None)
            writer.close()

    def abort_all(self) -> None:
        """Close all connections."""
        for writer in list(self._open):
            self._abort(writer)

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        self._open.pop(writer, None)
        writer.transport.abort()

    async def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, facts = 404, dict[str, object]()
        if path in {b"/health", b"/live"}:
            status, facts = await self._health.report() if path == b"/health" else self._health.live()
            if method not in {b"GET", b"HEAD"}:
                status, facts = 405, {}
        body = json.dumps(facts).encode()
        lines = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else body)


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
    listener = _Listener(health)
    try:
        server = await asyncio.start_server(listener.serve, HOST, port, limit=HEAD_MAX_BYTES)
    except OSError as error:
        raise CannotListen(
            f"WORKER_HEALTH_PORT={port} is not available: {os.strerror(error.errno or 0)}."
        ) from error
    try:
        yield
    finally:
        server.close()
        listener.abort_all()
        await server.wait_closed()
