"""Limits of a request's body: size, and time to receive it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems
from pipeline.errors import TooLarge

# The minimum average rate of a body; at this rate 25 MB take two hours.
SLOWEST_BYTES_PER_SECOND = 4096


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The maximum size, and the alternative that the error message suggests for larger bodies."""

    max_bytes: int
    way_around: str = ""


class BodyLimits:
    """Refuse a body that is too large, immediately if its length is declared, or that is not received in time.

    Parameters
    ----------
    limit
        Returns the limit of the route for a path.
    silence_seconds
        How long the client may send nothing.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str], BodyLimit], silence_seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._silence_seconds = silence_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._limit(scope["path"]), self._silence_seconds)
        body.expect(Headers(scope=scope).get("content-length", ""))
        if body.refusal is None:
            await self._read(body, scope, send)
        if body.refusal is not None:
            await body.refusal(scope, receive, send)

    async def _read(self, body: "_Body", scope: Scope, send: Send) -> None:
        async def send_unless_refused(message: Message) -> None:
            # FastAPI returns 400 for any error while it reads a body.
            if body.refusal is None:
                await send(message)

        try:
            await self._app(scope, body.receive, send_unless_refused)
        except ClientDisconnect:
            if body.refusal is None:
                raise


class _Body:
    """The body of one request; after a refusal, further reads report that the client has disconnected."""

    def __init__(self, receive: Receive, limit: BodyLimit, silence_seconds: float) -> None:
        self.refusal: Response | None = None
        self._receive = receive
        self._limit = limit
        self._silence_seconds = silence_seconds
        self._began = asyncio.get_running_loop().time()
        self._received = 0
        self._is_complete = False

    def expect(self, content_length: str) -> None:
        """Check the declared length."""
        if content_length.isdecimal() and int(content_length) > self._limit.max_bytes:
            self.refusal = _too_large(self._limit)

    async def receive(self) -> Message:
        """Return the next part."""
        if self._is_complete:
            return await self._receive()
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(self._timeout_seconds()):
                message = await self._receive()
        except TimeoutError:
            self.refusal = _too_slow()
            return {"type": "http.disconnect"}
        return self._checked(message)

    def _checked(self, message: Message) -> Message:
        self._received += len(message.get("body", b""))
        if self._received > self._limit.max_bytes:
            self.refusal = _too_large(self._limit)
            return {"type": "http.disconnect"}
        self._is_complete = not message.get("more_body", False)
        return message

    def _timeout_seconds(self) -> float:
        end = self._began + self._silence_seconds + self._received / SLOWEST_BYTES_PER_SECOND
        return min(self._silence_seconds, end - asyncio.get_running_loop().time())


def _too_large(limit: BodyLimit) -> Response:
    max_bytes = limit.max_bytes
    most = f"{max_bytes / 1024 / 1024:g} MB" if max_bytes >= 1024 * 1024 else f"{max_bytes // 1024} KB"
    return problems.of_error(
        TooLarge(f"The request is too large; it should have at most {most}.{limit.way_around}")
    )


def _too_slow() -> Response:
    answer = problems.response(
        408, "request_timeout", "The rest of the request did not come in time; send it again."
    )
    answer.headers["Connection"] = "close"  # the rest of this body must not be parsed as another request
    return answer
