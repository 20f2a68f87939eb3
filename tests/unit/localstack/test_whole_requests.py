"""Requests to the embedded AWS that are parsed without h11, and those that are left to it."""

import asyncio
from typing import Any

import pytest
import uvicorn
from embedded.asgi import Message, Receive, Send
from embedded.whole_requests import StoreProtocol, WholeRequest, whole_request
from uvicorn.server import ServerState

from functions.local.http_parser import HEADERS_MAX_BYTES, URL_MAX_BYTES

HOST = b"Host: localhost\r\n"
PUT = b"PUT /bucket/key?a=b HTTP/1.1\r\n"


def test_whole_request() -> None:
    data = PUT + HOST + b"X-Amz-Date:  a b \r\nContent-Length: 4\r\n\r\n\r\n\r\n"
    headers = [(b"host", b"localhost"), (b"x-amz-date", b"a b"), (b"content-length", b"4")]
    assert whole_request(data) == WholeRequest(b"PUT", b"/bucket/key?a=b", headers, b"\r\n\r\n")
    assert whole_request(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") is not None


@pytest.mark.parametrize(
    "data",
    [
        PUT + HOST,
        PUT + HOST + b"Content-Length: 2\r\n\r\na",
        PUT + HOST + b"Content-Length: 2\r\n\r\nabc",
        PUT + HOST + b"\r\na",
        PUT + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        PUT + HOST + b"Content-Length: 1, 1\r\n\r\na",
        PUT + HOST + b"Content-Length: +1\r\n\r\na",
        PUT + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
        PUT + HOST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        PUT + HOST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
        PUT + HOST + b"Connection: close\r\n\r\n",
        PUT + HOST + b"Upgrade: websocket\r\n\r\n",
        PUT + b"\r\n",
        PUT + HOST + HOST + b"\r\n",
        PUT + HOST + b"A: b\r\n c\r\n\r\n",
        PUT + HOST + b"A : b\r\n\r\n",
        PUT + HOST + b"A: b\nC: d\r\n\r\n",
        PUT + HOST + b"A: \0\r\n\r\n",
        PUT.replace(b"1.1", b"1.0") + HOST + b"\r\n",
        PUT.replace(b"PUT", b"CONNECT") + HOST + b"\r\n",
        PUT.replace(b"/bucket", b"http://bucket") + HOST + b"\r\n",
        PUT.replace(b"key", b"k\xc3\xa9y") + HOST + b"\r\n",
        PUT.replace(b"key", b"k" * URL_MAX_BYTES) + HOST + b"\r\n",
        PUT + HOST + b"A: " + b"b" * HEADERS_MAX_BYTES + b"\r\n\r\n",
        b"\r\n" + PUT + HOST + b"\r\n",
    ],
)
def test_request_is_left_to_h11(data: bytes) -> None:
    assert whole_request(data) is None


WHOLE = PUT + HOST + b"Content-Length: 1\r\n\r\n1"
CHUNKED = PUT + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n"


class Transport(asyncio.Transport):
    """A connection that stores what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.is_closed = b"", False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


async def answered(*packets: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Transport:
    """Return the connection after an application has sent back the bodies of the requests in these packets."""

    async def app(_scope: Message, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"<" + body, "more_body": True})
        await send({"type": "http.response.body", "body": b">"})

    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_keep_alive=75)
    config.load()
    state, transport = ServerState(), Transport()
    protocol = StoreProtocol(config, state, {})
    protocol.connection_made(transport)
    for packet in packets:
        protocol.data_received(packet)
    while state.tasks:
        await asyncio.gather(*state.tasks)
    was_closed = transport.is_closed
    protocol.connection_lost(None)
    transport.is_closed = was_closed
    return transport


@pytest.mark.parametrize(
    ("packets", "bodies"),
    [
        ([WHOLE, WHOLE], [b"<1>", b"<1>"]),
        ([WHOLE, CHUNKED, WHOLE], [b"<1>", b"<2>", b"<1>"]),
        ([CHUNKED, WHOLE], [b"<2>", b"<1>"]),
        ([WHOLE + CHUNKED + WHOLE], [b"<1>", b"<2>", b"<1>"]),
        ([WHOLE, WHOLE[:9], WHOLE[9:]], [b"<1>", b"<1>"]),
        ([WHOLE[:-1], WHOLE[-1:], WHOLE], [b"<1>", b"<1>"]),
    ],
)
async def test_responses_follow_order_of_requests(packets: list[bytes], bodies: list[bytes]) -> None:
    transport = await answered(*packets, headers=((b"content-length", b"3"),))
    assert [answer[-3:] for answer in transport.sent.split(b"HTTP/1.1 ")[1:]] == bodies
    assert not transport.is_closed


@pytest.mark.parametrize(
    ("packet", "status", "sent"),
    [
        (WHOLE, 200, b"HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\n<1>"),
        (WHOLE.replace(b"PUT", b"HEAD"), 200, b"HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\n"),
        (WHOLE, 204, b"HTTP/1.1 204 \r\n\r\n"),
    ],
)
async def test_response_is_framed(packet: bytes, status: int, sent: bytes) -> None:
    assert (await answered(packet, status=status)).sent == sent


async def test_application_closes_connection() -> None:
    transport = await answered(WHOLE, WHOLE, headers=((b"connection", b"close"),))
    assert transport.sent == b"HTTP/1.1 200 \r\nconnection: close\r\ncontent-length: 3\r\n\r\n<1>"
    assert transport.is_closed


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb"])
async def test_end_of_line_in_header_closes_connection(value: bytes) -> None:
    transport = await answered(WHOLE, headers=((b"x-name", value),))
    assert transport.sent == b""
    assert transport.is_closed
