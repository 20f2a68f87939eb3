"""The web pages that are allowed to use the service: its own, and those of the origins in the settings."""

from collections.abc import Collection
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.access.access_control import ORIGIN_REFUSED, is_origin_allowed
from functions.http.responses import problems
from pipeline.addresses import is_loopback

log = structlog.get_logger(__name__)

METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_RESPONSE_HEADERS = (
    "Content-Disposition",
    "Content-Location",
    "Content-Range",
    "Deprecation",
    "ETag",
    "Expires",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Vary",
    "WWW-Authenticate",
    "X-Correlation-Id",
    "X-Finish-Reason",
    "X-Job-Id",
    "X-Reference-Warnings",
    "X-Request-Id",
    "X-Session-Id",
    "X-Should-Retry",
    "X-Warning",
)


class Cors(CORSMiddleware):
    """CORS headers for the allowed origins, on error responses too; their pages may send any header."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=("*",),  # clients add headers of their own, such as those of tracing
            expose_headers=_RESPONSE_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        problem = problems.response(400, "cors_refused", bytes(response.body).decode())
        problem.headers["Vary"] = response.headers["Vary"]
        return problem


class OriginCheck:
    """Refuse cross-origin requests that need no CORS preflight: WebSockets and, optionally, forms.

    Parameters
    ----------
    allowed
        The allowed origins in the settings.
    checks_forms
        Whether other requests that change something are checked too, because authentication is off.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str], *, checks_forms: bool) -> None:
        self._app = app
        self._allowed = allowed
        self._checks_forms = checks_forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 403."""
        if not self._is_checked(scope) or self._is_allowed(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        log.warning("request of another origin refused", path=scope["path"], origin=Headers(scope=scope)["origin"])
        await problems.response(403, "origin_not_allowed", ORIGIN_REFUSED)(scope, receive, send)

    def _is_checked(self, scope: Scope) -> bool:
        if scope["type"] == "http":
            return self._checks_forms and scope["method"] not in _SAFE_METHODS
        return bool(scope["type"] == "websocket")

    def _is_allowed(self, headers: Headers) -> bool:
        return is_origin_allowed(headers.get("origin"), headers.get("host"), self._allowed)


class LoopbackHosts:
    """Refuse requests for other hosts than this machine, for a service on loopback without authentication.

    This prevents DNS rebinding: a page whose host name resolves to 127.0.0.1 would pass as one of this service.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond with 421."""
        host = None if scope["type"] == "lifespan" else Headers(scope=scope).get("host")
        if host is None or is_loopback_name(host):
            await self._app(scope, receive, send)
            return
        log.warning("request for another host refused", path=scope["path"], host=host)
        message = "Without keys, the service accepts requests for localhost only; for other names set AUTH=keys."
        await problems.response(421, "misdirected_request", message)(scope, receive, send)


def is_loopback_name(host: str) -> bool:
    """Return whether a `Host` header, with or without a port, is a loopback address or name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # unbalanced brackets
        return False
    return name.endswith(".localhost") or is_loopback(name)
