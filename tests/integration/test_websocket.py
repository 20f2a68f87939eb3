"""WebSockets over real sockets: results through the event path, and invalid messages."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from functions.background import notify
from functions.local.server import local_app
from functions.websocket.client_messages import MESSAGE_MAX_BYTES
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import ReplyTo
from pipeline.domain import jobs
from pipeline.errors import ConnectionGone
from tests.support.http_server import (
    FAILING_TEXT,
    PREVIEW_WAV,
    outcome_event,
    process_queued,
    run_server,
    run_simple_worker,
)
from tests.support.speech import voice_wav
from tests.support.waiting import eventually

Message = dict[str, Any]


@pytest.fixture
async def url(resources: Resources) -> AsyncIterator[str]:
    async with run_server(local_app(resources.settings)) as url:
        yield url


@pytest.fixture
async def session_id(url: str) -> str:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/upload", files={"audio": ("a", voice_wav(120.0))})
    made: str = answer.json()["session_id"]
    return made


def at(url: str) -> connect:
    return connect(url.replace("http", "ws") + "/ws", max_size=None)


async def send(socket: ClientConnection, type_: str, **data: object) -> None:
    await socket.send(json.dumps({"type": type_, "data": data}))


async def receive(socket: ClientConnection) -> Message:
    async with asyncio.timeout(20):
        received: Message = json.loads(await socket.recv())
    return received


async def address_of(resources: Resources) -> ReplyTo:
    """Return the reply address of the next queued job."""
    messages = await resources.synthesis.receive(1, wait_seconds=10)
    ticket = parse_queue_message(messages[0].body)
    assert ticket is not None
    request = await jobs.read_request(resources, ticket.job_id)
    assert request is not None
    assert request.subscriber is not None
    return request.subscriber.reply_to


async def test_get_without_upgrade_returns_426(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        response = await client.get("/ws")
        assert (await client.head("/ws")).status_code == 426
    assert (response.status_code, response.json()["code"]) == (426, "upgrade_required")
    assert response.headers["upgrade"] == "websocket"


async def test_preview_and_save_voice(url: str, resources: Resources, session_id: str) -> None:
    async with run_simple_worker(resources), at(url) as socket, httpx.AsyncClient(base_url=url) as client:
        await send(socket, "generate_preview", session_id=session_id, text="Hello.", request_id="r1")
        complete = await receive(socket)
        assert complete["type"] == "tts_complete"
        data = complete["data"]
        assert (data["request_id"], data["session_id"], data["temporary"]) == ("r1", session_id, True)
        assert data["audio_url"] == f"/previews/{data['job_id']}.wav"
        assert (await client.get(data["audio_url"])).content == PREVIEW_WAV
        await send(socket, "save_voice", name="Nova", description="calm")
        saved = await receive(socket)
        assert saved["type"] == "voice_saved"
        assert {name: saved["data"][name] for name in ("voice_id", "name", "description")} == {
            "voice_id": "nova",
            "name": "Nova",
            "description": "calm",
        }
        await send(socket, "generate_preview", voice_id="nova", text="Again.")
        assert (await receive(socket))["data"]["voice_id"] == "nova"


async def test_failed_preview_error_names_job(url: str, resources: Resources, session_id: str) -> None:
    async with run_simple_worker(resources), at(url) as socket:
        await send(socket, "generate_preview", session_id=session_id, text=FAILING_TEXT, request_id="r1")
        error = await receive(socket)
    assert error["type"] == "error"
    assert (error["data"]["message"], error["data"]["request_id"]) == ("It can't be said.", "r1")
    assert error["data"]["job_id"]


async def test_progress_message_precedes_result(url: str, resources: Resources, session_id: str) -> None:
    async with run_simple_worker(resources), at(url) as socket:
        await send(socket, "generate_preview", session_id=session_id, text="Hello.", progress=True)
        first, second = await receive(socket), await receive(socket)
    assert (first["type"], first["data"]["status"]) == ("progress", "queued")
    assert (second["type"], second["data"]["job_id"]) == ("tts_complete", first["data"]["job_id"])


async def test_many_requests_in_flight(url: str, resources: Resources, session_id: str) -> None:
    async with at(url) as socket:
        for number in range(12):
            await send(socket, "generate_preview", session_id=session_id, text="Hello.", request_id=f"r{number}")
        async with run_simple_worker(resources):
            received = [await receive(socket) for _ in range(12)]
    assert {message["data"]["request_id"] for message in received} == {f"r{number}" for number in range(12)}
    assert len({message["data"]["job_id"] for message in received}) == 12


INVALID_MESSAGES: list[str | bytes] = [
    "{",
    b"\x00\xff\xfe",
    "x" * MESSAGE_MAX_BYTES,
    b"x" * MESSAGE_MAX_BYTES,
    "[" * 100_000,
    '{"type":"sing"}',
    '{"type":"generate_preview","data":5}',
    '{"type":"sing","data":{"request_id":"\\ud800"}}',
    '{"type":"generate_preview","data":{"text":"\\ud800","session_id":"x"}}',
    "",
]


async def test_invalid_messages_keep_connection(url: str) -> None:
    async with at(url) as socket:
        for number, sent in enumerate(INVALID_MESSAGES):
            await socket.send(sent)
            assert (await receive(socket))["type"] == "error", sent[:80]
            await send(socket, "subscribe", job_id="nobody", request_id=f"still there {number}")
            assert (await receive(socket))["data"]["request_id"] == f"still there {number}"


async def test_fragmented_message(url: str) -> None:
    async with at(url) as socket:
        await socket.send(['{"type":', '"sing"', "}"])
        assert (await receive(socket))["data"]["field"] == "type"


async def test_subscribe_before_and_after_completion(url: str, resources: Resources, session_id: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        form = {"session_id": session_id, "response_text": "Hello."}
        answer = await client.post("/preview", data=form, headers={"Prefer": "respond-async"})
    job_id = answer.json()["job_id"]
    async with at(url) as early, at(url) as late:
        await send(early, "subscribe", job_id=job_id, request_id="early", progress=True)
        assert (await receive(early))["type"] == "progress"
        await process_queued(resources)
        received = await receive(early)
        assert (received["type"], received["data"]["request_id"]) == ("tts_complete", "early")
        await send(late, "subscribe", job_id=job_id, request_id="late")
        received = await receive(late)
        assert (received["type"], received["data"]["request_id"]) == ("tts_complete", "late")


async def test_subscribe_at_another_process(url: str, resources: Resources, session_id: str) -> None:
    async with run_server(local_app(resources.settings)) as other, at(other) as socket:
        await send(socket, "generate_preview", session_id=session_id, text="Hello.", progress=True)
        job_id = (await receive(socket))["data"]["job_id"]
        async with at(url) as other_socket:
            await send(other_socket, "subscribe", job_id=job_id, progress=True)
            await receive(other_socket)
            await process_queued(resources)
            for one in (socket, other_socket):
                assert (await receive(one))["data"]["job_id"] == job_id


async def test_post_to_connection(url: str, resources: Resources, session_id: str) -> None:
    async with at(url) as one, at(url) as other:
        addresses = []
        for socket in (one, other):
            await send(socket, "generate_preview", session_id=session_id, text="Hello.")
            addresses.append(await eventually(lambda: address_of(resources)))
        await asyncio.gather(*(resources.connections.post(to, f'"{n}"'.encode()) for n, to in enumerate(addresses)))
        assert [json.loads(await one.recv()), json.loads(await other.recv())] == ["0", "1"]
        await one.close()
        await eventually(lambda: _is_gone(resources, addresses[0]))
        await resources.connections.post(addresses[1], b'"still there"')
        assert json.loads(await other.recv()) == "still there"


async def _is_gone(resources: Resources, address: ReplyTo) -> bool:
    try:
        await resources.connections.post(address, b"{}")
    except ConnectionGone:
        return True
    return False


async def test_post_to_unknown_connection_is_gone(url: str, resources: Resources, session_id: str) -> None:
    async with at(url) as socket:
        await send(socket, "generate_preview", session_id=session_id, text="Hello.")
        address = await eventually(lambda: address_of(resources))
        for connection_id in ("nobody", "a/b", "http-x", "%2e%2e", "L0SM9cOFvHcCIhw="):
            with pytest.raises(ConnectionGone):
                await resources.connections.post(address.model_copy(update={"connection_id": connection_id}), b"{}")


async def stored_connections(resources: Resources) -> list[str]:
    return [item.key async for item in resources.bucket.list(layout.CONNECTIONS)]


async def test_closed_connection_is_removed(url: str, resources: Resources, session_id: str) -> None:
    async with at(url) as socket:
        await send(socket, "generate_preview", session_id=session_id, text="Hello.", progress=True)
        job_id = (await receive(socket))["data"]["job_id"]
        await eventually(lambda: stored_connections(resources))

    async def is_removed() -> bool:
        return not await stored_connections(resources)

    await eventually(is_removed)
    await process_queued(resources)
    assert await notify.handle(resources, outcome_event(resources, job_id), notify.Lookups.of(resources)) == {
        "batchItemFailures": []
    }


async def test_many_connections(url: str, resources: Resources, session_id: str) -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(at(url)) for _ in range(20)]
        for number, socket in enumerate(sockets):
            await send(socket, "generate_preview", session_id=session_id, text="Hello.", request_id=f"r{number}")
        await stack.enter_async_context(run_simple_worker(resources))
        received = [await receive(socket) for socket in sockets]
    assert [message["data"]["request_id"] for message in received] == [f"r{number}" for number in range(20)]


async def test_correlation_id_is_returned(url: str, resources: Resources, session_id: str) -> None:
    named = connect(url.replace("http", "ws") + "/ws", additional_headers={"X-Correlation-Id": "corr-1"})
    async with run_simple_worker(resources), named as socket:
        assert socket.response is not None
        assert socket.response.headers["X-Correlation-Id"] == "corr-1"
        await send(socket, "generate_preview", session_id=session_id, text="Hello.")
        assert (await receive(socket))["data"]["correlation_id"] == "corr-1"
        await send(socket, "save_voice", name="Nova")
        assert (await receive(socket))["data"]["correlation_id"] == "corr-1"
