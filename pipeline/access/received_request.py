"""A request as it was received, and the checks of it that need no key.

It imports nothing but the standard library, because the embedded AWS runs in a virtual environment of its own.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import unquote

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
UNSIGNED_PAYLOADS = frozenset({UNSIGNED_PAYLOAD, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})

_CONTENT_SHA256 = "x-amz-content-sha256"
_LOOPBACK_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class SignatureRefused(Exception):
    """The signature is missing or not valid. `code` is S3's code for this error."""

    status: ClassVar[int] = 403

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it was received.

    Parameters
    ----------
    method
        The HTTP method.
    target
        Path and query as on the request line, still percent-encoded.
    headers
        Names in lower case, and values.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    _values: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", dict(self.headers))

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> "ReceivedRequest":
        """Create the request from an ASGI scope."""
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        return cls(
            scope.get("method", "GET"),
            scope["raw_path"].decode("latin-1") + query,
            [(name.decode("latin-1").lower(), _decoded(value)) for name, value in scope["headers"]],
        )

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None if it is missing.

        Raises
        ------
        SignatureRefused
            The header occurs more than once.
        """
        if len(self._values) < len(self.headers) and sum(header == name for header, _ in self.headers) > 1:
            raise SignatureRefused("InvalidRequest", f"The header `{name}` may be sent only once.")
        return self._values.get(name)

    def query(self) -> list[tuple[str, str]]:
        """Return the decoded names and values of the query."""
        pairs = (pair.partition("=") for pair in self.target.partition("?")[2].split("&") if pair)
        return [(unquote(name), unquote(value)) for name, _, value in pairs]


def check_loopback_host(request: ReceivedRequest) -> None:
    """Check that `Host` names this machine, which prevents DNS rebinding.

    Raises
    ------
    SignatureRefused
        `Host` is missing or names something else.
    """
    if not _LOOPBACK_HOST.fullmatch(request.header("host") or ""):
        raise SignatureRefused("AccessDenied", "The Host should be 127.0.0.1, localhost or [::1].")


def is_presigned(request: ReceivedRequest) -> bool:
    """Return whether the signature is in the query instead of a header."""
    return "?" in request.target and any(name == "X-Amz-Signature" for name, _ in request.query())


def declared_payload(request: ReceivedRequest) -> str | None:
    """Return the value of `x-amz-content-sha256`, or None if the request has no such header.

    Raises
    ------
    SignatureRefused
        It is neither a hash nor a supported marker.
    """
    declared = request.header(_CONTENT_SHA256)
    if declared is None or declared in UNSIGNED_PAYLOADS or _SHA256.fullmatch(declared):
        return declared
    raise SignatureRefused(
        "NotImplemented",
        f"`{_CONTENT_SHA256}` should be the SHA-256 of the body or one of {', '.join(sorted(UNSIGNED_PAYLOADS))}.",
    )


def check_payload(declared: str | None, body: bytes) -> None:
    """Check the body against the value that `declared_payload` returned.

    Raises
    ------
    SignatureRefused
        The body is not the one that was signed.
    """
    if declared is None or declared in UNSIGNED_PAYLOADS:
        return
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest(), declared):
        raise SignatureRefused("XAmzContentSHA256Mismatch", "The body is not the one that was signed.")


def _decoded(value: bytes) -> str:
    """Decode a header's value. ministack does the same."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
