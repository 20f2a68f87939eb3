"""HTTP/1.1 as the local server parses it: h11 with limits, and without input that is ambiguous."""

from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer

URL_MAX_BYTES = 7 * 1024  # less than the maximum line length of the WebSocket library
HEADERS_MAX_BYTES = 16 * 1024


class AmbiguousRequest(h11.RemoteProtocolError):
    """A request that a proxy in front of this server may delimit differently; the message is for the client."""


class Connection(h11.Connection):
    """The server's side of a connection, with limits that do not depend on how a request is split into packets."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEADERS_MAX_BYTES)
        self._receive_buffer = _StrictLines()

    def next_event(self) -> Any:
        """Return the next event from the received data.

        Raises
        ------
        h11.RemoteProtocolError
            It can't be parsed, is ambiguous, or is too large.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            _check_size(event)
            _check_framing(event)
        return event


class _StrictLines(ReceiveBuffer):
    """Reject what h11 accepts for old clients: lines that end with LF only, and folded headers."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        size = len(self)
        lines = super().maybe_extract_lines()
        if lines is None:
            return None
        if size - len(self) != sum(len(line) + len("\r\n") for line in lines) + len("\r\n"):
            raise AmbiguousRequest("Every line of a request's head should end with CR LF; one ends with LF alone.")
        if any(line.startswith((b" ", b"\t")) for line in lines):
            raise AmbiguousRequest("A header is folded over several lines; each should be one line.")
        return lines


def _check_size(request: h11.Request) -> None:
    if len(request.target) > URL_MAX_BYTES:
        raise h11.RemoteProtocolError("URL too long", error_status_hint=414)
    if sum(len(name) + len(value) for name, value in request.headers) > HEADERS_MAX_BYTES:
        raise h11.RemoteProtocolError("headers too large", error_status_hint=431)


def _check_framing(request: h11.Request) -> None:
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names:
        raise AmbiguousRequest("The request has both Content-Length and Transfer-Encoding; it should have one.")
    if request.http_version < b"1.1":
        raise AmbiguousRequest("Transfer-Encoding needs HTTP/1.1; an older request should have Content-Length.")
