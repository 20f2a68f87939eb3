"""`python -m functions` as a process: its log and its request limits."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from supervision.ports import free_port
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from pipeline.clients.resources import Resources
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on Unix")

KEY = "vck_AbCdEf012345_SECRETkeySECRETkeySECRET"


@asynccontextmanager
async def server(resources: Resources, **more: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Run the server and yield its URL and process once it responds."""
    settings, port = resources.settings, free_port("127.0.0.1")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": settings.aws_endpoint_url or "",
        "BUCKET": settings.bucket,
        "VOICES_BUCKET": settings.bucket_for_voices,
        "SYNTHESIS_QUEUE": settings.synthesis_queue,
        "PORT": str(port),
        "LOG_FORMAT": "json",
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "functions", env=environment, stderr=asyncio.subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await eventually(lambda: is_up(url), seconds=30)
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_up(url: str) -> bool:
    with suppress(httpx.TransportError):
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{url}/health")).status_code == 200
    return False


async def use_every_secret(url: str) -> None:
    """Send keys and tickets in every supported way."""
    socket = url.replace("http", "ws") + "/ws?ticket=SECRETticket"
    headers = {"Authorization": f"Bearer {KEY}"}
    for address, more in (
        (socket, headers | {"Sec-WebSocket-Protocol": "bearer, SECRETprotocol"}),
        (socket, {}),
        (socket, headers | {"Origin": "https://evil.example"}),
        (socket.replace("/ws", "/nowhere"), headers),
    ):
        with suppress(InvalidStatus):
            async with connect(address, additional_headers=more):
                pass
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        await client.get("/voices", params={"ticket": "SECRETticket", "X-Amz-Signature": "SECRETsignature"})
        await client.get(f"/voices/{KEY}")
        await client.post("/voices", content=f'{{"ticket": "SECRETticket", "name": "{KEY}"')
        await client.get("/voices", headers={"X-Correlation-Id": KEY})
        await client.get("/x" * 10_000 + "?ticket=SECRETticket")


@pytest.mark.parametrize(
    ("auth", "level"),
    [pytest.param("none", "INFO", marks=pytest.mark.slow), ("none", "DEBUG"), ("keys", "DEBUG")],
)
async def test_log_contains_no_caller_secrets(resources: Resources, auth: str, level: str) -> None:
    async with server(resources, AUTH=auth, LOG_LEVEL=level) as (url, process):
        await use_every_secret(url)
        process.terminate()
        async with asyncio.timeout(15):
            _, output = await process.communicate()
    log = output.decode()
    assert ("client connected" if auth == "none" else "authentication failed") in log
    assert '"path": "/voices"' in log
    assert "secret" not in log.lower().replace("[redacted]", "")
    assert "?" not in "".join(line for line in log.splitlines() if "WebSocket" in line)


async def test_server_limits_requests(resources: Resources) -> None:
    async with server(resources) as (url, _), httpx.AsyncClient(base_url=url) as client:
        answers = [
            await client.get("/x" * 5_000),
            await client.get("/health", headers={"X": "x" * 20_000}),
            await client.get("/health", headers={"Host": "rebound.example"}),
            await client.post("/voices", content=b"x" * 200_000),
        ]
    assert [answer.status_code for answer in answers] == [414, 431, 421, 413]
    assert not [answer for answer in answers if "server" in answer.headers]
