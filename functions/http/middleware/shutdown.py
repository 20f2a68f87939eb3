"""The response to a request that is cancelled because the graceful shutdown of the server timed out."""

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems

log = structlog.get_logger(__name__)


class CancelledRequests:
    """Return 503; uvicorn would log a traceback and return 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        has_begun = scope["type"] != "http"

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            if scope["type"] == "lifespan":
                raise
            log.info("request cancelled: the service stops", path=scope["path"])
            if not has_begun:
                await problems.stopping()(scope, receive, send)
