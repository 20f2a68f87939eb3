"""HTTP requests that two implementations could parse differently are rejected."""

import asyncio
import json
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.support.http_server import run_server

HEAD = b"POST /voices HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def reads_everything(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await PlainTextResponse(scope["path"])(scope, receive, send)


async def exchange(sent: bytes, *, ends: bool = False) -> bytes:
    """Send bytes and return the response up to the end of the connection."""
    async with run_server(reads_everything, lifespan="off") as url, asyncio.timeout(15):
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(sent)
            if ends:
                writer.write_eof()
            return await reader.read()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
            "both Content-Length and Transfer-Encoding",
        ),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", "needs HTTP/1.1"),
        (HEAD.replace(b"\r\n", b"\n") + b"\n" + SMUGGLED, "should end with CR LF"),
        (HEAD + b"X-First: 1\nX-Second: 2\r\n\r\n", "should end with CR LF"),
        (HEAD + b"X-First: 1\r\n\n", "should end with CR LF"),
        (HEAD + b"X-Folded: 1\r\n 2\r\n\r\n", "folded"),
        (HEAD + b"X-Folded: 1\r\n\tContent-Length: 10\r\n\r\n", "folded"),
        (CHUNKED + b"0\r\n\n" + SMUGGLED, "should end with CR LF"),
        (CHUNKED + b"0\r\nX-Trailer: 1\n\r\n" + SMUGGLED, "should end with CR LF"),
        (CHUNKED + b"0\r\nX-Trailer: 1\r\n 2\r\n\r\n" + SMUGGLED, "folded"),
    ],
)
async def test_ambiguous_request_closes_connection(sent: bytes, reason: str) -> None:
    received = await exchange(sent)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    assert b"/smuggled" not in body
    problem = json.loads(body)
    assert (problem["code"], reason in problem["error"]) == ("bad_request", True)


@pytest.mark.parametrize("sent", [HEAD + b"Content-Length: 9\r\n\r\n1234", CHUNKED + b"4\r\n1234\r\n"])
async def test_truncated_body_returns_400(sent: bytes) -> None:
    received = await exchange(sent, ends=True)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"is incomplete" in received


async def test_line_feed_in_body_is_data() -> None:
    sent = HEAD + b"Content-Length: 6\r\nConnection: close\r\n\r\na\n\n b\n"
    assert (await exchange(sent)).endswith(b"/voices")
    chunks = CHUNKED.replace(b"chunked\r\n", b"chunked\r\nConnection: close\r\n") + b"6\r\na\n\n b\n\r\n0\r\n\r\n"
    assert (await exchange(chunks)).endswith(b"/voices")
