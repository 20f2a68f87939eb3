"""What every HTTP request passes through: a correlation id, a log line, a limit on its body."""

import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions import problems
from pipeline.errors import TooLarge
from pipeline.ids import NewId
from pipeline.logs import correlation_id_from

CORRELATION_HEADER = "X-Correlation-Id"

log = structlog.get_logger("functions.access")


class Correlation:
    """Take the caller's `X-Correlation-Id` or make one, bind it to every log line, and send it back."""

    def __init__(self, app: ASGIApp, new_id: NewId) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = correlation_id_from(Headers(scope=scope).get(CORRELATION_HEADER))
        correlation_id = given or self._new_id()

        async def send_with_header(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept"}:
                MutableHeaders(scope=message)[CORRELATION_HEADER] = correlation_id
            await send(message)

        with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
            await self._app(scope, receive, send_with_header)


class AccessLog:
    """Write one line a request: method, path without its query, status and time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            log.info("request", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)


class Unexpected:
    """Answer 500 when a route fails in a way that nobody thought of.

    The framework does so too, but outside of every other middleware: without a correlation id, and unlogged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            log.exception("unexpected error", path=scope["path"])
            if has_begun:
                raise
            await problems.unexpected()(scope, receive, send)


class BodyLimit:
    """Refuse a body that is too large: at once when its length is given, else as soon as it shows.

    `otherwise` tells a client that is refused what it can do.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, otherwise: str = "") -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            await problems.of_error(self._too_large())(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large()
            return message

        async def send_unless_refused(message: Message) -> None:
            # FastAPI makes a 400 of whatever goes wrong while it reads a body.
            if received <= self._max_bytes:
                await send(message)

        await self._app(scope, receive_limited, send_unless_refused)
        if received > self._max_bytes:
            await problems.of_error(self._too_large())(scope, receive, send)

    def _too_large(self) -> TooLarge:
        megabytes = self._max_bytes / 1024 / 1024
        return TooLarge(f"The request is too large; it should have at most {megabytes:g} MB.{self._otherwise}")
