"""Clients that send too many frames, never finish a message, or open too many connections."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from functions.local.server import local_app
from functions.local.websocket_protocol import WebSocketProtocol
from functions.websocket.client_messages import MESSAGE_MAX_BYTES
from pipeline.access import api_keys
from pipeline.clients.resources import Resources
from tests.support.http_server import override, run_server
from tests.support.waiting import eventually

ONE_BYTE = Frame(Opcode.TEXT, b"x").serialize(mask=True)
PING = Frame(Opcode.PING, b"").serialize(mask=True)
EMPTY_MESSAGE = Frame(Opcode.TEXT, b"").serialize(mask=True)


class ShortLimits(WebSocketProtocol):
    """The protocol with short timeouts, for fast tests."""

    slowed_seconds = 1.5
    message_timeout_seconds = 0.4
    linger_seconds = 0.2


@asynccontextmanager
async def serving(resources: Resources, **settings: object) -> AsyncIterator[str]:
    app = local_app(override(resources.settings, **settings))
    async with run_server(app, ws=ShortLimits) as url:
        yield url


def at(url: str, **headers: str) -> connect:
    return connect(url.replace("http", "ws") + "/ws", additional_headers=headers, ping_interval=None)


async def key_of(resources: Resources, owner: str) -> str:
    key, _ = await api_keys.make(resources, owner=owner, name="", scopes=["preview"], expires_at=None)
    return key


@asynccontextmanager
async def loop_durations() -> AsyncIterator[list[float]]:
    """Measure the CPU seconds of each iteration of the event loop, without collecting objects of other tests."""
    durations = [0.0]
    gc.collect()
    gc.freeze()

    async def measure() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            durations.append(time.thread_time() - before)

    measuring = asyncio.create_task(measure())
    yield durations
    measuring.cancel()
    gc.unfreeze()


async def flood(socket: ClientConnection, frame: bytes, seconds: float) -> None:
    """Send frames as fast as the server reads them."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end and not socket.transport.is_closing():
        if not socket.transport.get_write_buffer_size():
            socket.transport.write(frame * 10_000)
        await asyncio.sleep(0.01)


async def answers(socket: ClientConnection) -> tuple[int, int]:
    """Read until the connection is closed.  Return the number of messages and the close code."""
    count = 0
    try:
        async for _ in socket:
            count += 1
    except ConnectionClosed as closed:
        return count, closed.rcvd.code if closed.rcvd else 0
    return count, 1000


@pytest.mark.parametrize("frame", [ONE_BYTE, EMPTY_MESSAGE, PING], ids=["one byte", "empty", "ping"])
async def test_frame_flood_is_closed(resources: Resources, frame: bytes) -> None:
    # Warm up: create the OpenAPI document and resolve the endpoint.
    await resources.bucket.delete(["nothing"])
    async with serving(resources) as url, at(url) as socket, httpx.AsyncClient(base_url=url) as other:
        await other.get("/openapi.json")
        async with loop_durations() as durations, asyncio.timeout(30):
            flooding = asyncio.create_task(flood(socket, frame, seconds=30))
            reading = asyncio.create_task(answers(socket))
            while not reading.done():
                assert (await other.get("/openapi.json")).status_code == 200
                await asyncio.sleep(0.05)
        count, code = await reading
        await flooding
    assert code == 1008
    assert count < 150
    assert max(durations) < 0.3


async def test_burst_is_answered_in_full(resources: Resources) -> None:
    async with serving(resources) as url, at(url) as socket:
        for number in range(100):
            await socket.send(json.dumps({"type": "subscribe", "data": {"job_id": "x", "request_id": str(number)}}))
        async with asyncio.timeout(10):
            answered = [json.loads(await socket.recv())["data"]["request_id"] for _ in range(100)]
    assert answered == [str(number) for number in range(100)]


async def test_invalid_messages_count_as_requests(resources: Resources) -> None:
    async with serving(resources, auth="keys", requests_per_minute=3) as url:
        key = await key_of(resources, "alice")
        async with at(url, Authorization=f"Bearer {key}") as socket:
            codes = []
            for message in ("{", "[]", '{"type":"sing"}', "{", "{"):
                await socket.send(message)
                codes.append(json.loads(await socket.recv())["data"]["code"])
    assert codes == ["invalid_input"] * 3 + ["too_many_requests"] * 2


@pytest.mark.parametrize("sent", ["x" * 10_000, b"x" * 10_000])
async def test_unfinished_message_closes_connection(resources: Resources, sent: str | bytes) -> None:
    async def fragments() -> AsyncIterator[str | bytes]:
        yield sent
        for _ in range(50):
            await asyncio.sleep(0.05)
            yield sent[:1]

    async with serving(resources) as url, at(url) as socket:
        sending = asyncio.create_task(socket.send(fragments()))
        assert await answers(socket) == (0, 1008)
        with suppress(ConnectionClosed):
            await sending


async def test_unfinished_frame_closes_connection(resources: Resources) -> None:
    whole = Frame(Opcode.TEXT, b"x" * 1000).serialize(mask=True)
    async with serving(resources) as url, at(url) as socket:
        socket.transport.write(whole[:1])
        await asyncio.sleep(0.2)
        socket.transport.write(whole[1:-1])
        assert await answers(socket) == (0, 1008)


async def test_waiting_connection_stays_open(resources: Resources) -> None:
    async with serving(resources) as url, at(url) as socket:
        for _ in range(2):
            await socket.send(["{", "}"])
            assert json.loads(await socket.recv())["type"] == "error"
            await asyncio.sleep(0.6)


@pytest.mark.parametrize("fragment", [MESSAGE_MAX_BYTES + 1, MESSAGE_MAX_BYTES // 4])
async def test_long_message_closes_with_1009(resources: Resources, fragment: int) -> None:
    async def fragments() -> AsyncIterator[str]:
        for _ in range(100):
            yield "x" * fragment

    async with serving(resources) as url, at(url) as socket:
        with suppress(ConnectionClosed):
            await socket.send(fragments())
        assert await answers(socket) == (0, 1009)


async def refused(opening: connect) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await opening.__aenter__()
    response = caught.value.response
    return response.status_code, json.loads(bytes(response.body))["code"]


async def opens(opening: connect) -> bool:
    try:
        async with opening:
            return True
    except InvalidStatus:
        return False


async def test_connections_per_key_are_limited(resources: Resources) -> None:
    async with serving(resources, auth="keys", connections_per_key=2) as url, AsyncExitStack() as stack:
        alice, bob = await key_of(resources, "alice"), await key_of(resources, "bob")
        one, _ = [await stack.enter_async_context(at(url, Authorization=f"Bearer {alice}")) for _ in range(2)]
        assert await refused(at(url, Authorization=f"Bearer {alice}")) == (429, "too_many_requests")
        async with at(url, Authorization=f"Bearer {bob}"):
            pass
        await one.close()
        await eventually(lambda: opens(at(url, Authorization=f"Bearer {alice}")))


async def test_connections_per_address_are_limited(resources: Resources) -> None:
    async with serving(resources, connections_per_address=2) as url, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(at(url))
        assert await refused(at(url)) == (429, "too_many_requests")
