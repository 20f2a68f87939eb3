"""`HEAD` for every route that supports `GET` (RFC 9110, section 9.3.2)."""

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Handle `HEAD` with the route for `GET`, without sending the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle `HEAD` as `GET` if no route supports it."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or _is_served(scope):
            await self._app(scope, receive, send)
            return

        is_complete = False

        async def send_without_body(message: Message) -> None:
            nonlocal is_complete
            if message["type"] != "http.response.body":
                await send(message)
            elif not is_complete:  # at the first part, as a stream may be endless
                is_complete = True
                await send({"type": "http.response.body", "body": b""})

        # `Range` is defined for `GET` only (section 14.2).
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await self._app({**scope, "method": "GET", "headers": headers}, receive, send_without_body)


def _is_served(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)
