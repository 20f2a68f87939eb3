"""HTTP/1.1 of the embedded AWS: most requests arrive whole, and are served without h11's state machine.

h11 and uvicorn take a third of the CPU time of a request, most of it for cases that do not occur in such a request.
All other requests are left to them: bodies in parts, `Expect`, `Upgrade`, and everything that is refused.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import h11
from h11._abnf import header_field, request_line
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from embedded.asgi import WHOLE_BODY, Message
from functions.local.http_parser import HEADERS_MAX_BYTES, URL_MAX_BYTES
from functions.local.limited_http import LimitedHttpProtocol

Headers = list[tuple[bytes, bytes]]

IDLE_SECONDS = 75  # longer than clients keep connections: otherwise they use one that is being closed

_REQUEST_LINE, _HEADER = re.compile(request_line.encode()), re.compile(header_field.encode())
_METHODS = frozenset({b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS"})
_LEFT_TO_H11 = frozenset({b"connection", b"expect", b"transfer-encoding", b"upgrade"})
_NO_BODY = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """A request with its body.  The names of headers are in lower case."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes


def whole_request(data: bytes) -> WholeRequest | None:
    """Parse a request that ends with the data. Return None for everything that h11 has to parse."""
    end = data.find(b"\r\n\r\n", 0, HEADERS_MAX_BYTES)
    if end < 0:
        return None
    first, *rest = data[:end].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    headers = [(match[1].lower(), match[2]) for match in map(_HEADER.fullmatch, rest) if match]
    if line is None or len(headers) != len(rest):
        return None
    method, target, version = line.groups()
    values = dict(headers)
    body = data[end + 4 :]
    is_whole = (
        method in _METHODS
        and target.startswith(b"/")
        and len(target) <= URL_MAX_BYTES
        and version == b"1.1"
        and values.keys().isdisjoint(_LEFT_TO_H11)
        and b"host" in values
        and values.get(b"content-length", b"0") == str(len(body)).encode()
        and sum(name in {b"host", b"content-length"} for name, _ in headers) == 1 + (b"content-length" in values)
    )
    return WholeRequest(method, target, headers, body) if is_whole else None


class _Exchange(RequestResponseCycle):
    """A whole request, and its response, which is written at once."""

    def __init__(self, request: WholeRequest, **options: Any) -> None:
        super().__init__(**options)
        self.body = bytearray(request.body)
        self.more_body = False
        self.message_event.set()
        self._start: Message = {}
        self._parts: list[bytes] = []

    async def send(self, message: Any) -> None:
        """Send the response with its last part."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self.response_started, self._start = True, message
            return
        self._parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        self.transport.write(self._response())
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _response(self) -> bytes:
        status, headers, body = self._start["status"], list(self._start["headers"]), b"".join(self._parts)
        names = {name.lower() for name, _ in headers}
        if b"content-length" not in names and status not in _NO_BODY:
            headers.append((b"content-length", b"%d" % len(body)))
        if b"connection" in names:  # its only value is `close`
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        if not lines.count(b"\r") == lines.count(b"\n") == len(headers):
            raise h11.LocalProtocolError("A header contains the end of a line.")
        has_body = status not in _NO_BODY and self.scope["method"] != "HEAD"
        return b"HTTP/1.1 %d \r\n%b\r\n%b" % (status, lines, body if has_body else b"")


class StoreProtocol(LimitedHttpProtocol):
    """HTTP/1.1 of the store, for the processes of this machine."""

    headers_timeout_seconds = IDLE_SECONDS
    linger_seconds = 5.0
    linger_max_bytes = 8 * 1024 * 1024
    max_connections = 2048

    def data_received(self, data: bytes) -> None:
        """Serve a whole request; leave others to h11, after the response to the one that is being served."""
        if isinstance(self.cycle, _Exchange) and not self.cycle.response_complete:
            self.conn.receive_data(data)
            self.flow.pause_reading()
            return
        is_first = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        request = whole_request(data) if is_first and not self._lingering.is_closing() else None
        if request is None:
            super().data_received(data)
        else:
            self._serve(request)

    def _serve(self, request: WholeRequest) -> None:
        self._unset_keepalive_if_required()
        path, _, query = request.target.partition(b"?")
        scope: Message = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": "http",
            "method": request.method.decode(),
            "root_path": "",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": request.headers,
            "state": self.app_state.copy(),
            WHOLE_BODY: request.body,
        }
        self.cycle = _Exchange(
            request,
            scope=scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            on_response=self._on_whole_response,
        )
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        self._update_timeout()

    def _on_whole_response(self) -> None:
        """Continue with what was received meanwhile."""
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.conn.trailing_data[0]:
            self.handle_events()
        self._update_timeout()
        self._start_write_checks()
