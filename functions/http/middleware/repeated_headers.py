"""Headers that must not be repeated: a proxy may check the first one and this service would use another."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.http.responses import problems

SINGLE = ("Authorization", "Content-Type", "Idempotency-Key")


class RepeatedHeaders:
    """Refuse a request that has one of those headers more than once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        headers = None if scope["type"] == "lifespan" else Headers(scope=scope)
        repeated = [name for name in SINGLE if headers and len(headers.getlist(name)) > 1]
        if not repeated:
            await self._app(scope, receive, send)
            return
        message = f"The request has {repeated[0]} more than once; it should have one."
        await problems.response(400, "bad_request", message)(scope, receive, send)
