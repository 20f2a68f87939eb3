"""CORS headers that replace those of ministack, which allow every origin."""

from collections.abc import Iterable

from embedded.asgi import Message, Send
from pipeline.access.received_request import ReceivedRequest, SignatureRefused

METHODS = ("GET", "HEAD", "POST")
MAX_AGE_SECONDS = 3600

Headers = list[tuple[bytes, bytes]]


class CorsPolicy:
    """Allows only pages of these origins to use presigned URLs and forms."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)

    def preflight_headers(self, request: ReceivedRequest) -> Headers:
        """Return the headers that answer a preflight request.

        Raises
        ------
        SignatureRefused
            The origin or the method is not allowed.
        """
        if request.header("access-control-request-method") not in METHODS or not self._allows(request):
            raise SignatureRefused("AccessForbidden", "Pages of this origin may not do this.")
        return [
            (b"access-control-allow-methods", ", ".join(METHODS).encode()),
            (b"access-control-allow-headers", (request.header("access-control-request-headers") or "").encode()),
            (b"access-control-max-age", str(MAX_AGE_SECONDS).encode()),
        ]

    def applied(self, request: ReceivedRequest, send: Send) -> Send:
        """Return `send` with the CORS headers of each response replaced by those for this request."""
        ours: Headers = [(b"vary", b"Origin")] if self._origins else []
        if self._allows(request):
            ours.append((b"access-control-allow-origin", (request.header("origin") or "").encode()))
            ours.append((b"access-control-expose-headers", b"ETag"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*_others(message["headers"]), *ours]}
            await send(message)

        return send_with_headers

    def _allows(self, request: ReceivedRequest) -> bool:
        """Return whether a page may send this request: no page has the credentials to sign headers."""
        if request.header("authorization") is not None:
            return False
        origin = request.header("origin")
        # A page that follows a redirect from the API to a presigned URL sends "null": the signature protects.
        follows_redirect = bool(self._origins) and origin == "null" and request.method in {"GET", "HEAD"}
        return origin in self._origins or follows_redirect


def without_wildcard(send: Send) -> Send:
    """Return `send` without the CORS headers that ministack adds to other applications' responses."""

    async def send_without(message: Message) -> None:
        if message["type"] == "http.response.start" and _allows_all(message["headers"]):
            message = message | {"headers": _others(message["headers"])}
        await send(message)

    return send_without


def _allows_all(headers: Headers) -> bool:
    return any(name.lower() == b"access-control-allow-origin" and value == b"*" for name, value in headers)


def _others(headers: Headers) -> Headers:
    return [one for one in headers if not one[0].lower().startswith(b"access-control-")]
