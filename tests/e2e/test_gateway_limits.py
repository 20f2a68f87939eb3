"""The service behind the limits of API Gateway and Lambda, and tests of the proxy that enforces them."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from aiohttp import web
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.e2e.client import Client, recording
from tests.e2e.deployment import Deployment
from tests.e2e.gateway_limits import GOING_AWAY, HOST, KIB, MIB, TOO_BIG, Limits, Proxied, limited

SHORT = Limits(answer_seconds=0.5, idle_seconds=0.5, connection_seconds=2)


@pytest.fixture
def upstream() -> Iterator[tuple[str, str]]:
    """An HTTP API that returns as many bytes as requested, and a WebSocket echo server."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("seconds", 0)))
        size, kind = int(request.query.get("bytes", 2)), request.query.get("kind", "text/plain")
        return web.Response(body=b"x" * size, content_type=kind, headers={"X-Got": str(len(await request.read()))})

    def echo(client: ServerConnection) -> None:
        for message in client:
            client.send(message)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    app = web.Application(client_max_size=100 * MIB)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    asyncio.run_coroutine_threadsafe(runner.setup(), loop).result(5)
    asyncio.run_coroutine_threadsafe(web.TCPSite(runner, HOST, 0).start(), loop).result(5)
    with serve(echo, HOST, 0, max_size=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}", f"ws://{HOST}:{server.socket.getsockname()[1]}/ws"
        server.shutdown()
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture
def proxied(upstream: tuple[str, str]) -> Iterator[Proxied]:
    with limited(*upstream, SHORT) as found:
        yield found


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        (f"bytes={6 * MIB}", 200),
        (f"bytes={6 * MIB + 1}", 500),
        (f"bytes={4 * MIB}&kind=audio/wav", 200),
        (f"bytes={5 * MIB}&kind=audio/wav", 500),
        ("seconds=2", 503),
    ],
)
def test_proxy_limits_responses(proxied: Proxied, query: str, status: int) -> None:
    assert httpx.get(f"{proxied.url}/?{query}", timeout=20).status_code == status


@pytest.mark.parametrize(
    ("size", "kind", "status"),
    [
        (4 * MIB, "audio/wav", 200),
        (5 * MIB, "audio/wav", 413),
        (6 * MIB, "application/json", 200),
        (11 * MIB, "text/plain", 413),
    ],
)
def test_proxy_limits_requests(proxied: Proxied, size: int, kind: str, status: int) -> None:
    answer = httpx.post(proxied.url, content=b"x" * size, headers={"Content-Type": kind}, timeout=20)
    assert answer.status_code == status
    if status == 200:
        assert answer.headers["x-got"] == str(size)


def test_proxy_limits_frames_and_messages(proxied: Proxied) -> None:
    with connect(proxied.socket_url, max_size=None) as socket:
        whole = "x" * 100 * KIB
        socket.send(whole[at : at + 30 * KIB] for at in range(0, len(whole), 30 * KIB))
        assert socket.recv(10) == whole
        socket.send("x" * (32 * KIB + 1))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == TOO_BIG


@pytest.mark.parametrize("is_active", [False, True])
def test_proxy_closes_idle_and_old_connections(proxied: Proxied, is_active: bool) -> None:
    with connect(proxied.socket_url) as socket, pytest.raises(ConnectionClosed) as closed:
        stay(socket, is_active=is_active)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == GOING_AWAY


def stay(socket: ClientConnection, *, is_active: bool) -> None:
    """Stay connected for longer than allowed, idle or with some messages."""
    began = time.monotonic()
    while time.monotonic() - began < SHORT.connection_seconds + 10:
        if is_active:
            socket.send("hello")
            assert socket.recv(5) == "hello"
            with suppress(TimeoutError):
                socket.recv(0.2)
        else:
            socket.recv(5)


# The service


@pytest.fixture(scope="module")
def behind_limits(deployment: Deployment) -> Iterator[Client]:
    with limited(deployment.url, deployment.socket_url) as found:
        yield Client(found.url, found.socket_url, deployment.key)


deployed = [pytest.mark.slow, pytest.mark.xdist_group("deployed")]


@pytest.mark.usefixtures("deployment")
class TestDeployed:
    """The deployment behind the limits."""

    pytestmark = deployed

    def test_long_preview_redirects(self, behind_limits: Client) -> None:
        assert behind_limits.preview(120, "Hello.").status_code == 200
        assert behind_limits.preview(110, "A sentence that goes on for quite some time. " * 90).status_code == 303

    def test_large_recording_error_names_uploads(self, behind_limits: Client) -> None:
        answer = behind_limits.speak_as(recording(110, seconds=48, rate=48_000), "Hello.")  # 4.4 MiB
        assert answer.status_code == 413
        assert "POST /uploads" in answer.json()["error"]

    def test_longest_text_fits_into_message(self, behind_limits: Client) -> None:
        session_id = behind_limits.preview(120, "Hello.").headers["x-session-id"]
        with behind_limits.socket() as socket:
            message = socket.ask(
                "generate_preview", session_id=session_id, text="Sehr schön! " * 340, progress=True
            )
            assert message["type"] == "progress", message

    def test_key_is_required(self, behind_limits: Client) -> None:
        anonymous = Client(behind_limits.url, behind_limits.socket_url)
        assert anonymous.get("/voices").status_code == 401
        with pytest.raises(InvalidStatus) as refused, anonymous.socket():
            pass
        assert refused.value.response.status_code in {401, 403}  # 403 is the emulator's response
