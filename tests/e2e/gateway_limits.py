"""A proxy that enforces the limits of API Gateway and Lambda, which emulators do not.

Sources: the quotas of API Gateway's HTTP and WebSocket APIs, and of Lambda's synchronous invocations.
"""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, web
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

KIB, MIB = 1024, 1024 * 1024
HOST = "127.0.0.1"
TOO_BIG, GOING_AWAY = 1009, 1001
HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "host", "keep-alive", "content-encoding"}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of AWS.  Tests can shorten the times, but not the sizes."""

    request_bytes: int = 10 * MIB
    payload_bytes: int = 6 * MIB
    """The size of an event or a response of a function, as text."""
    answer_seconds: float = 30
    frame_bytes: int = 32 * KIB
    message_bytes: int = 128 * KIB
    idle_seconds: float = 10 * 60
    connection_seconds: float = 2 * 60 * 60


@dataclass(frozen=True, slots=True)
class Proxied:
    """The URLs of the proxied APIs."""

    url: str
    socket_url: str


@contextmanager
def limited(url: str, socket_url: str, limits: Limits = Limits()) -> Iterator[Proxied]:
    """Serve both APIs with these limits from a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    stack = AsyncExitStack()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    try:
        http_port = run(stack.enter_async_context(_http(url, limits)))
        socket_port = run(stack.enter_async_context(_sockets(socket_url, limits)))
        yield Proxied(f"http://{HOST}:{http_port}", f"ws://{HOST}:{socket_port}{urlsplit(socket_url).path}")
    finally:
        run(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


# HTTP


@asynccontextmanager
async def _http(url: str, limits: Limits) -> AsyncIterator[int]:
    async with ClientSession(timeout=ClientTimeout(limits.answer_seconds), auto_decompress=False) as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            return await _forward(session, url, request, limits)

        app = web.Application(client_max_size=2 * limits.request_bytes)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def _forward(session: ClientSession, url: str, request: web.Request, limits: Limits) -> web.Response:
    body = await request.read()
    if len(body) > limits.request_bytes or as_text(body, request.content_type) > limits.payload_bytes:
        return web.json_response({"message": "Request Entity Too Large"}, status=413)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    try:
        async with session.request(
            request.method, url + request.path_qs, data=io.BytesIO(body), headers=headers, allow_redirects=False
        ) as response:
            response_body = await response.read()
    except TimeoutError:
        return web.json_response({"message": "Service Unavailable"}, status=503)
    if as_text(response_body, response.content_type) > limits.payload_bytes:
        return web.json_response({"message": "Internal Server Error"}, status=500)
    kept = {name: value for name, value in response.headers.items() if name.lower() not in HOP_BY_HOP}
    return web.Response(status=response.status, body=response_body, headers=kept)


def as_text(body: bytes, content_type: str) -> int:
    """Return the size of a body in an event.  Binary bodies are base64-encoded."""
    is_text = content_type.startswith("text/") or content_type.endswith("json")
    return len(body) if is_text else (len(body) + 2) // 3 * 4


# WebSocket


@asynccontextmanager
async def _sockets(url: str, limits: Limits) -> AsyncIterator[int]:
    upstreams: dict[ServerConnection, ClientConnection] = {}

    async def admit(client: ServerConnection, request: Request) -> Response | None:
        """Connect to the API first, and forward its refusal."""
        headers = [(name, request.headers[name]) for name in ("Authorization", "Origin") if name in request.headers]
        query = urlsplit(request.path).query
        try:
            upstreams[client] = await connect(f"{url}?{query}" if query else url, additional_headers=headers)
        except InvalidStatus as error:
            return client.respond(HTTPStatus(error.response.status_code), "")
        return None

    async def relay(client: ServerConnection) -> None:
        await _relay(client, upstreams.pop(client), limits)

    async with serve(relay, HOST, 0, process_request=admit, max_size=None) as server:
        yield server.sockets[0].getsockname()[1]


async def _relay(client: ServerConnection, upstream: ClientConnection, limits: Limits) -> None:
    activity = asyncio.Event()
    ways = [
        asyncio.create_task(_up(client, upstream, activity, limits)),
        asyncio.create_task(_down(client, upstream, activity)),
        asyncio.create_task(_idle(activity, limits.idle_seconds)),
        asyncio.create_task(asyncio.sleep(limits.connection_seconds)),
    ]
    done, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in others:
        way.cancel()
    codes = [code for way in done if not way.exception() and (code := way.result())]
    await upstream.close()
    await client.close(codes[0] if codes else GOING_AWAY)


async def _up(
    client: ServerConnection, upstream: ClientConnection, activity: asyncio.Event, limits: Limits
) -> int | None:
    """Forward the messages of a client, and check the sizes of frames and messages."""
    with suppress(ConnectionClosed):
        while True:
            message = ""
            async for frame in client.recv_streaming(decode=True):
                assert isinstance(frame, str)
                message += frame
                if len(frame.encode()) > limits.frame_bytes or len(message.encode()) > limits.message_bytes:
                    return TOO_BIG
            activity.set()
            await upstream.send(message)
    return None


async def _down(client: ServerConnection, upstream: ClientConnection, activity: asyncio.Event) -> None:
    with suppress(ConnectionClosed):
        async for message in upstream:
            activity.set()
            await client.send(message)


async def _idle(activity: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        while True:
            activity.clear()
            await asyncio.wait_for(activity.wait(), seconds)
