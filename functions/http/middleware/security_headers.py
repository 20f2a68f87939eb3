"""Security headers of all responses, and the refusal of requests that repeat a header.

`Strict-Transport-Security` is not set here. The proxy that terminates TLS knows whether every name and port of the
host supports https. On `localhost` the header would disable http for all other services.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems

# Pages set a `Content-Security-Policy` of their own.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityHeaders:
    """Add the headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers that the response does not have."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


# A proxy may check the first value of these headers while this service would use another.
SINGLE_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key")


class RepeatedHeaders:
    """Refuse requests in which one of `SINGLE_HEADERS` occurs more than once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or return 400."""
        headers = None if scope["type"] == "lifespan" else Headers(scope=scope)
        repeated = [name for name in SINGLE_HEADERS if headers and len(headers.getlist(name)) > 1]
        if not repeated:
            await self._app(scope, receive, send)
            return
        message = f"The header {repeated[0]} occurs more than once; send it once."
        await problems.response(400, "bad_request", message)(scope, receive, send)
