"""Limits of request bodies: size and time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems
from pipeline.errors import TooLarge

# The minimum average rate. A body of 25 MB takes almost two hours at this rate.
SLOWEST_BYTES_PER_SECOND = 4096


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The maximum size of a body, and the hint in the error message for larger bodies."""

    max_bytes: int
    hint: str = ""


class BodyLimits:
    """Reject bodies that are too large, before reading them if their length is declared, or too slow.

    Parameters
    ----------
    limit
        Returns the limit of the route for a path.
    silence_seconds
        The maximum time between two parts of a body.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str], BodyLimit], silence_seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._silence_seconds = silence_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a limited body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._limit(scope["path"]), self._silence_seconds)
        body.expect(Headers(scope=scope).get("content-length", ""))
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
        self._is_complete = False

    def expect(self, content_length: str) -> None:
        """Check the declared length."""
        if content_length.isdecimal() and int(content_length) > self._limit.max_bytes:
            self.error_response = _too_large(self._limit)

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
        self._received += len(message.get("body", b""))
        if self._received > self._limit.max_bytes:
            self.error_response = _too_large(self._limit)
            return {"type": "http.disconnect"}
        self._is_complete = not message.get("more_body", False)
        return message

    def _timeout_seconds(self) -> float:
        end = self._began + self._silence_seconds + self._received / SLOWEST_BYTES_PER_SECOND
        return min(self._silence_seconds, end - asyncio.get_running_loop().time())


def _too_large(limit: BodyLimit) -> Response:
    max_bytes = limit.max_bytes
    most = f"{max_bytes / 1024 / 1024:g} MB" if max_bytes >= 1024 * 1024 else f"{max_bytes // 1024} KB"
    return problems.of_error(TooLarge(f"The request body is too large; it should have at most {most}.{limit.hint}"))


def _too_slow() -> Response:
    response = problems.response(
        408, "request_timeout", "The request body was not received in time; send it again."
    )
    response.headers["Connection"] = "close"  # the rest of this body must not be parsed as another request
    return response
