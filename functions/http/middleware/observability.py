"""Middleware for all HTTP requests: correlation id, access log, rate limit headers, and unexpected errors."""

import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems, rate_limit_headers
from pipeline.ids import NewId
from pipeline.telemetry import tracing
from pipeline.telemetry.logs import correlation_id_from

CORRELATION_HEADER = "X-Correlation-Id"

log = structlog.get_logger("functions.access")

_RESPONSE_STARTS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


class Correlation:
    """Add the correlation id to log lines and to the response: the client's `X-Correlation-Id`, or a new one."""

    def __init__(self, app: ASGIApp, new_id: NewId) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind the correlation id while the request is handled."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = correlation_id_from(Headers(scope=scope).get(CORRELATION_HEADER))
        correlation_id = given or self._new_id()

        async def send_with_header(message: Message) -> None:
            if message["type"] in _RESPONSE_STARTS:
                MutableHeaders(scope=message)[CORRELATION_HEADER] = correlation_id
            await send(message)

        with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
            await self._app(scope, receive, send_with_header)


class RequestSpan:
    """Trace each request as a span; `traceparent` names its parent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a span for the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = Headers(scope=scope).get("traceparent")
        with tracing.span("request", parent=parent, kind="server", method=scope["method"], path=scope["path"]):
            await self._app(scope, receive, send)


class AccessLog:
    """Log one line per request: method, path without query, status and duration."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log the request at its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def send_and_observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_observe)
        finally:
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            # The studio and load balancers poll the health.
            write = log.debug if scope["path"] == "/health" and status == 200 else log.info
            write("request", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)


class RateLimit:
    """Add the `RateLimit` header fields of the owner's request quota to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers, if the request was counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            quota_status = state.get("quota_status")
            if message["type"] == "http.response.start" and quota_status is not None:
                headers = MutableHeaders(scope=message)
                for name, value in rate_limit_headers.headers(quota_status).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Unexpected:
    """Return 500 when a route raises an exception that has no handler.

    The framework does so too, but outside of all other middleware: without a correlation id and an access log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Return 500 if the application raises an exception before its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def send_and_observe(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_observe)
        except Exception:
            log.exception("unexpected error", path=scope["path"])
            if has_started:
                raise
            await problems.unexpected()(scope, receive, send)
