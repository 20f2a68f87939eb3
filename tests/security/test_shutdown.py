"""SIGTERM while clients wait: they get a usable response, and the log contains no traceback."""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pipeline.clients.resources import Resources
from tests.integration.test_server_process import server
from tests.support.moto_server import count_visible
from tests.support.speech import voice_wav
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on Unix")


async def stopped(process: asyncio.subprocess.Process) -> list[dict[str, object]]:
    """Stop the server and return its log."""
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(15):
        _, log = await process.communicate()
    return [json.loads(line) for line in log.decode().splitlines()]


def check_log(lines: list[dict[str, object]]) -> None:
    assert not [line for line in lines if "exception" in line or line["level"] in {"error", "critical"}]


async def test_waiting_preview_returns_202(resources: Resources) -> None:
    async def are_queued() -> bool:
        return count_visible(resources.settings) == 3

    async with server(resources) as (url, process), httpx.AsyncClient(base_url=url, timeout=20) as client:
        form, files = {"response_text": "Hello."}, {"audio": voice_wav(120.0)}
        pending = [asyncio.create_task(client.post("/preview", data=form, files=files)) for _ in range(3)]
        await eventually(are_queued)
        lines = await stopped(process)
        answers = await asyncio.gather(*pending)
    for answer in answers:
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/jobs/{answer.json()['job_id']}"
        assert int(answer.headers["retry-after"]) > 0
    check_log(lines)


@pytest.mark.slow
async def test_unfinished_request_returns_503(resources: Resources) -> None:
    async with server(resources) as (url, process):
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST /voices HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 100\r\n\r\n{")
        await asyncio.sleep(0.3)
        lines = await stopped(process)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in head.lower()
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "unavailable"
    assert not [line for line in lines if "exception" in line]


@pytest.mark.slow
async def test_websocket_closes_with_1012(resources: Resources) -> None:
    async with server(resources) as (url, process), connect(url.replace("http", "ws") + "/ws") as socket:
        stopping = asyncio.create_task(stopped(process))
        with pytest.raises(ConnectionClosed, match="1012"), suppress(asyncio.CancelledError):
            await socket.recv()
        check_log(await stopping)
