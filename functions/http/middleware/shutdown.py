"""The response to a request that is cancelled because the graceful shutdown of the server timed out."""

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems

log = structlog.get_logger(__name__)


class CancelledRequests:
    """Return 503 for cancelled requests, for which uvicorn would log a traceback and return 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Return 503 if the request is cancelled before its response."""
        has_started = scope["type"] != "http"

        async def send_and_observe(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_observe)
        except asyncio.CancelledError:
            if scope["type"] == "lifespan":
                raise
            log.info("request cancelled: the service stops", path=scope["path"])
            if not has_started:
                await problems.stopping()(scope, receive, send)
