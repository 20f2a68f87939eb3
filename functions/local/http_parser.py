"""HTTP/1.1 as the local server parses it: h11 with limits, and without input that is ambiguous."""

import re
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer

URL_MAX_BYTES = 7 * 1024  # less than the maximum line length of the WebSocket library
HEADERS_MAX_BYTES = 16 * 1024

# Parsing a chunk takes about 20 µs of CPU whatever its size.
EVENTS_PER_TURN = 64
SMALL_CHUNKS_MAX = 2048
CHUNK_MIN_AVERAGE_BYTES = 32

_ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#@]+)(?P<path>/[^?]*)?(?P<query>\?.*)?", re.IGNORECASE)


class AmbiguousRequest(h11.RemoteProtocolError):
    """A request that a proxy in front of this server may delimit differently; the message is for the client."""


class ChunksTooSmall(h11.RemoteProtocolError):
    """A body of very small chunks, which would take much CPU time to parse; the message is for the client."""


class Connection(h11.Connection):
    """The server's side of a connection, with limits that do not depend on how a request is split into packets.

    `next_event` returns `h11.NEED_DATA` after `EVENTS_PER_TURN` events.  Then `is_interrupted` is True, and
    `start_turn` has to be called before there are more.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEADERS_MAX_BYTES)
        self._receive_buffer = _StrictLines()
        self._events_left = EVENTS_PER_TURN
        self._chunks = 0
        self._chunk_bytes = 0

    @property
    def is_interrupted(self) -> bool:
        """Whether received data may be left to parse in the next turn."""
        return self._events_left == 0

    def start_turn(self) -> None:
        """Allow `EVENTS_PER_TURN` more events."""
        self._events_left = EVENTS_PER_TURN

    def next_event(self) -> Any:
        """Return the next event from the received data.

        Raises
        ------
        h11.RemoteProtocolError
            It can't be parsed, is ambiguous, or is too large.
        """
        if self.is_interrupted:
            return h11.NEED_DATA
        event = super().next_event()
        if event is not h11.NEED_DATA and event is not h11.PAUSED:
            self._events_left -= 1
        if isinstance(event, h11.Request):
            _check_size(event)
            _check_framing(event)
            self._chunks = self._chunk_bytes = 0
            return _in_origin_form(event)
        if isinstance(event, h11.Data):
            self._count(event)
        return event

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """Return the bytes of an event.  A response to an incomplete request closes the connection."""
        if isinstance(event, h11.Response) and self.their_state is h11.SEND_BODY:
            event = h11.Response(
                status_code=event.status_code,
                headers=[
                    (name, value) for name, value in event.headers.raw_items() if name.lower() != b"connection"
                ]
                + [(b"Connection", b"close")],
                reason=event.reason,
                http_version=event.http_version,
            )
        return super().send_with_data_passthrough(event)

    def _count(self, data: h11.Data) -> None:
        self._chunks += data.chunk_end
        self._chunk_bytes += len(data.data)
        if self._chunks > SMALL_CHUNKS_MAX and self._chunk_bytes < self._chunks * CHUNK_MIN_AVERAGE_BYTES:
            raise ChunksTooSmall(
                f"The chunks of the body are too small; on average they should have at least "
                f"{CHUNK_MIN_AVERAGE_BYTES} bytes."
            )


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


def _in_origin_form(request: h11.Request) -> h11.Request:
    """Return a request with a path as its target; an absolute target replaces `Host` (RFC 9112, section 3.2.2)."""
    absolute = _ABSOLUTE_FORM.fullmatch(request.target)
    if absolute is None:
        return request
    return h11.Request(
        method=request.method,
        target=(absolute["path"] or b"/") + (absolute["query"] or b""),
        headers=[
            (name, absolute["authority"] if name.lower() == b"host" else value)
            for name, value in request.headers.raw_items()
        ],
        http_version=request.http_version,
    )
