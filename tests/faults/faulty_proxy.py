"""A proxy between the services and the storage that injects faults of networks and of S3."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

# Relative frequencies. `lost` and `truncated` requests were executed before their response fails.
FAULTS: Mapping[str, int] = {
    "delayed": 6,
    "reset": 3,
    "lost": 4,
    "truncated": 3,
    "slow_down": 3,
    "error": 2,
    "no_answer": 1,
}
DELAY_SECONDS = (0.1, 3.0)
NO_ANSWER_SECONDS = 20.0
_BODY_MAX_BYTES = 64 * 1024 * 1024
_PER_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


@dataclass(slots=True)
class FaultyProxy:
    """Forwards HTTP requests to the storage, and lets a share of them fail.

    Parameters
    ----------
    upstream
        URL of the storage, without a path.
    random
        Chooses the requests and their faults.
    """

    upstream: str
    random: Random
    share: float = 0.0
    """The share of requests with a fault."""
    is_down: bool = False
    """Whether all connections are reset."""
    counts: Counter[str] = field(default_factory=Counter)
    """Requests by their fault, `forwarded` for those without."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port until the context ends. Yield the URL."""
        app = web.Application(client_max_size=_BODY_MAX_BYTES)
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(session, request)

            app.router.add_route("*", "/{path:.*}", handle)
            async with TestServer(app) as server:
                yield str(server.make_url("")).rstrip("/")

    def _choose(self) -> str:
        if self.is_down:
            return "outage"
        if self.random.random() >= self.share:
            return "forwarded"
        return self.random.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]

    async def _handle(self, session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self._choose()
        self.counts[fault] += 1
        if fault == "delayed":
            await asyncio.sleep(self.random.uniform(*DELAY_SECONDS))
        elif fault == "no_answer":
            await asyncio.sleep(NO_ANSWER_SECONDS)
        elif fault == "slow_down":
            return _refusal(request, 503, "SlowDown")
        elif fault == "error":
            return _refusal(request, 500, "InternalError")
        if fault in {"outage", "reset", "no_answer"}:
            return _reset(request)
        try:
            async with session.request(
                request.method,
                URL(self.upstream + request.raw_path, encoded=True),
                headers=_forwarded(request.headers),
                data=body or None,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                allow_redirects=False,
            ) as response:
                answer = await response.read()
        except aiohttp.ClientError:
            return _reset(request)
        if fault == "lost":
            return _reset(request)
        return await _answered(request, response, answer, is_truncated=fault == "truncated")


def _forwarded(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers that are not about one connection. The signature depends on the others."""
    return [(name, value) for name, value in headers.items() if name.lower() not in _PER_CONNECTION]


async def _answered(
    request: web.Request, response: aiohttp.ClientResponse, body: bytes, *, is_truncated: bool
) -> web.StreamResponse:
    answer = web.StreamResponse(status=response.status, reason=response.reason)
    answer.headers.extend(_forwarded(response.headers))
    answer.content_length = int(response.headers.get("Content-Length", len(body)))
    await answer.prepare(request)
    if is_truncated:
        await answer.write(body[: len(body) // 2])
        return _reset(request)
    await answer.write(body)
    return answer


def _refusal(request: web.Request, status: int, code: str) -> web.Response:
    if "X-Amz-Target" in request.headers:  # SQS
        document = {"__type": f"com.amazonaws.sqs#{code}", "message": "Injected."}
        return web.json_response(document, status=status, content_type="application/x-amz-json-1.0")
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Injected.</Message></Error>"
    return web.Response(text=text, status=status, content_type="application/xml")


def _reset(request: web.Request) -> web.Response:
    """Reset the connection. The returned response is not sent."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        request.transport.abort()
    return web.Response()
