"""Limits of request bodies: size, time and encoding."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems
from functions.http.routing.long_field import FieldSplitter
from pipeline.errors import TooLarge

# The minimum average rate. A body of 25 MB takes almost two hours at this rate.
SLOWEST_BYTES_PER_SECOND = 4096


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The maximum size of a body, and the hint in the error message for larger bodies."""

    max_bytes: int
    hint: str = ""
    long_field: str | None = None
    """A JSON field whose value counts towards `max_bytes` only."""
    other_bytes: int = 0
    """The maximum size of everything else, if there is a `long_field`."""


class BodyLimits:
    """Reject bodies that are too large, before reading them if their length is declared, or too slow.

    Parameters
    ----------
    limit
        Returns the limit for a path and a `Content-Type`.
    silence_seconds
        The maximum time between two parts of a body.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str, str], BodyLimit], silence_seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._silence_seconds = silence_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a limited body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope["path"], headers.get("content-type", ""))
        body = _Body(receive, limit, self._silence_seconds)
        body.error_response = _error_before_body(headers, limit)
        if body.error_response is not None and not _is_served(scope):
            body.error_response = None  # the response is 404 or 405, without reading the body
        if body.error_response is None:
            await self._read(body, scope, send)
        if body.error_response is not None:
            await body.error_response(scope, receive, send)

    async def _read(self, body: "_Body", scope: Scope, send: Send) -> None:
        async def send_unless_failed(message: Message) -> None:
            # FastAPI returns 400 for any error while it reads a body.
            if body.error_response is None:
                await send(message)

        try:
            await self._app(scope, body.receive, send_unless_failed)
        except ClientDisconnect:
            if body.error_response is None:
                raise


class _Body:
    """The body of one request.  After an error, reads return a disconnect."""

    def __init__(self, receive: Receive, limit: BodyLimit, silence_seconds: float) -> None:
        self.error_response: Response | None = None
        self._receive = receive
        self._limit = limit
        self._silence_seconds = silence_seconds
        self._began = asyncio.get_running_loop().time()
        self._received = 0
        self._splitter = FieldSplitter(limit.long_field) if limit.long_field else None
        self._other_bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next message."""
        if self._is_complete:
            return await self._receive()
        if self.error_response is not None:
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(self._timeout_seconds()):
                message = await self._receive()
        except TimeoutError:
            self.error_response = _too_slow()
            return {"type": "http.disconnect"}
        return self._checked(message)

    def _checked(self, message: Message) -> Message:
        data = message.get("body", b"")
        self._received += len(data)
        if self._received > self._limit.max_bytes:
            self.error_response = _too_large(self._limit)
            return {"type": "http.disconnect"}
        if self._splitter is not None:
            before, _, after = self._splitter.feed(data)
            self._other_bytes += len(before) + len(after)
            if self._other_bytes > self._limit.other_bytes:
                self.error_response = _other_too_large(self._limit)
                return {"type": "http.disconnect"}
        self._is_complete = not message.get("more_body", False)
        return message

    def _timeout_seconds(self) -> float:
        end = self._began + self._silence_seconds + self._received / SLOWEST_BYTES_PER_SECOND
        return min(self._silence_seconds, end - asyncio.get_running_loop().time())


def _is_served(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)


def _error_before_body(headers: Headers, limit: BodyLimit) -> Response | None:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        message = (
            f"The request body has Content-Encoding {encoding[:64]!r}, which is not supported. "
            "Send the body without compression."
        )
        return problems.response(415, "unsupported_media_type", message)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit.max_bytes:
        return _too_large(limit)
    return None


def _too_large(limit: BodyLimit) -> Response:
    size = _size(limit.max_bytes)
    return problems.of_error(TooLarge(f"The request body is too large; it should have at most {size}.{limit.hint}"))


def _other_too_large(limit: BodyLimit) -> Response:
    message = (
        f"The request body is too large; it should have at most {_size(limit.other_bytes)} "
        f"besides the value of {limit.long_field}."
    )
    return problems.of_error(TooLarge(message))


def _size(count: int) -> str:
    return f"{count / 1024 / 1024:g} MB" if count >= 1024 * 1024 else f"{count // 1024} KB"


def _too_slow() -> Response:
    response = problems.response(
        408, "request_timeout", "The request body was not received in time; send it again."
    )
    response.headers["Connection"] = "close"  # the rest of this body must not be parsed as another request
    return response
