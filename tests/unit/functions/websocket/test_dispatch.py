"""Dispatch of all incoming messages, valid and invalid."""

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock

import pytest

from functions.access.access_control import AccessControl
from functions.background import notify
from functions.previews.fair_turns import FairTurns
from functions.websocket import server_messages
from functions.websocket.client_messages import CLIENT_MESSAGES, MESSAGE_MAX_BYTES
from functions.websocket.dispatch import Dispatcher
from pipeline.access.api_keys import ANONYMOUS
from pipeline.audio.reference_audio import encode_wav
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Options, ReplyTo, Request, Subscriber
from pipeline.domain import jobs, sessions, voice_changes, voices
from pipeline.settings import Settings
from tests.support.fake_service import FakeService, reference_recording
from tests.support.fakes.clock import settle

HERE = ReplyTo(endpoint="http://127.0.0.1:9", connection_id="c1=")
THERE = ReplyTo(endpoint="http://127.0.0.1:9", connection_id="c2=")

Message = dict[str, Any]


def dispatcher_of(fakes: FakeService) -> Dispatcher:
    return Dispatcher(fakes.resources, AccessControl(fakes.resources), FairTurns(slots=1))


async def ask(fakes: FakeService, type_: object, data: object = None, sender: ReplyTo = HERE) -> Message | None:
    message = {"type": type_} | ({} if data is None else {"data": data})
    return await answered(fakes, json.dumps(message), sender)


async def answered(fakes: FakeService, raw: str | bytes, sender: ReplyTo = HERE) -> Message | None:
    """Return the only message sent for one message, whether by the dispatcher or as its response."""
    said: list[Message] = []

    async def say(message: Message) -> None:
        said.append(message)

    if answer := await dispatcher_of(fakes).handle(sender, ANONYMOUS, raw, say):
        said.append(answer)
    assert len(said) <= 1
    return said[0] if said else None


async def refused(fakes: FakeService, type_: object, data: object = None, sender: ReplyTo = HERE) -> Message:
    answer = await ask(fakes, type_, data, sender)
    assert answer is not None
    assert answer["type"] == "error"
    assert isinstance(answer["data"]["message"], str)
    told: Message = answer["data"]
    return told


async def request_of(fakes: FakeService, number: int = -1) -> Request:
    ticket = parse_queue_message(fakes.synthesis.bodies[number])
    assert ticket is not None
    request = await jobs.read_request(fakes.resources, ticket.job_id)
    assert request is not None
    return request


async def test_generate_preview() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    data = {"session_id": session_id, "text": "Hello.", "request_id": "r1", "language": "german", "seed": 7}
    assert await ask(fakes, "generate_preview", data) is None
    request = await request_of(fakes)
    assert (request.kind, request.text, request.source.session_id) == ("preview", "Hello.", session_id)
    assert request.subscriber == Subscriber(reply_to=HERE, request_id="r1")
    assert request.options == Options(language="German", seed=7)
    assert (request.reference_id, request.new_reference) == (session_id, None)


async def test_generate_preview_beyond_limit_of_waiting_jobs() -> None:
    fakes = FakeService(Settings(jobs_waiting=2))
    data = {"session_id": await fakes.session(), "text": "Hello."}
    for _ in range(2):
        assert await ask(fakes, "generate_preview", data) is None
    told = await refused(fakes, "generate_preview", data)
    assert (told["code"], told["message"]) == ("unavailable", "Too many jobs wait. Try again later.")
    assert len(fakes.synthesis.bodies) == 2


async def test_generate_preview_progress() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    data = {"session_id": session_id, "text": "Hello.", "progress": True, "request_id": "r1"}
    answer = await ask(fakes, "generate_preview", data)
    request = await request_of(fakes)
    told = {"job_id": request.job_id, "status": "queued", "request_id": "r1"}
    assert answer == {"type": "progress", "data": told}


async def test_queued_is_sent_after_the_message_of_the_job() -> None:
    fakes = FakeService()
    data = {"session_id": await fakes.session(), "text": "Hello.", "progress": True}
    waiting: list[int] = []

    async def send(_: Message) -> None:
        waiting.append(len(fakes.synthesis.bodies))

    message = json.dumps({"type": "generate_preview", "data": data})
    assert await dispatcher_of(fakes).handle(HERE, ANONYMOUS, message, send) is None
    assert waiting == [1]


async def test_generate_preview_waits_for_turn() -> None:
    fakes, turns = FakeService(), FairTurns(slots=1)
    dispatcher = Dispatcher(fakes.resources, AccessControl(fakes.resources), turns)
    data = {"session_id": await fakes.session(), "text": "Hello."}
    message = json.dumps({"type": "generate_preview", "data": data})
    async with turns.turn("bob"):
        handling = asyncio.create_task(dispatcher.handle(HERE, ANONYMOUS, message, AsyncMock()))
        await settle()
        assert fakes.synthesis.bodies == []
    assert await handling is None
    assert len(fakes.synthesis.bodies) == 1


async def test_generate_preview_with_saved_voice() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert await ask(fakes, "generate_preview", {"voice_id": "nova", "text": "Hello."}) is None
    request = await request_of(fakes)
    assert (request.source.voice_id, request.reference_id) == ("nova", session_id)


async def test_generate_preview_checks_upload() -> None:
    fakes = FakeService()
    session_id, form = await sessions.open_upload(fakes.resources, None, "")
    data = {"session_id": session_id, "text": "Hello."}
    assert (await refused(fakes, "generate_preview", data))["code"] == "not_found"
    await fakes.bucket.put(form.fields["key"], b"nonsense", "x")
    assert (await refused(fakes, "generate_preview", data))["code"] == "invalid_audio"
    await fakes.bucket.put(form.fields["key"], encode_wav(reference_recording()), "x")
    assert await ask(fakes, "generate_preview", data) is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (None, "text"),
        ({}, "text"),
        ({"text": "Hello."}, "session_id"),
        ({"text": "Hello.", "session_id": "SESSION", "voice_id": "nova"}, "session_id"),
        ({"text": "", "session_id": "SESSION"}, "text"),
        ({"text": " \n", "session_id": "SESSION"}, "text"),
        ({"text": "a" * 4097, "session_id": "SESSION"}, "text"),
        ({"text": 5, "session_id": "SESSION"}, "text"),
        ({"text": None, "session_id": "SESSION"}, "text"),
        ({"text": ["Hello."], "session_id": "SESSION"}, "text"),
        ({"text": "\ud800", "session_id": "SESSION"}, "text"),
        ({"text": "Hello.", "session_id": 5}, "session_id"),
        ({"text": "Hello.", "session_id": ""}, "session_id"),
        ({"text": "Hello.", "session_id": "../../etc"}, "session_id"),
        ({"text": "Hello.", "session_id": "ffffffffffff7fff8fffffffffffffff"}, "session_id"),
        ({"text": "Hello.", "voice_id": "nobody"}, "voice_id"),
        ({"text": "Hello.", "voice_id": ""}, "voice_id"),
        ({"text": "Hello.", "voice_id": "../x"}, "voice_id"),
        ({"text": "Hello.", "voice_id": {"a": 1}}, "voice_id"),
        ({"text": "Hello.", "session_id": "SESSION", "language": "Klingon"}, "language"),
        ({"text": "Hello.", "session_id": "SESSION", "language": None}, "language"),
        ({"text": "Hello.", "session_id": "SESSION", "sead": 7}, "sead"),
        ({"text": "Hello.", "session_id": "SESSION", "\ud800": 7}, "data"),
        ({"text": "Hello.", "session_id": "SESSION", "top_p": 2}, "top_p"),
        ({"text": "Hello.", "session_id": "SESSION", "progress": "yes"}, "progress"),
        ({"text": "Hello.", "session_id": "SESSION", "progress": 1}, "progress"),
        ({"text": "Hello.", "session_id": "SESSION", "request_id": 7}, "request_id"),
        ({"text": "Hello.", "session_id": "SESSION", "request_id": "\ud800"}, "request_id"),
        ([], "data"),
        ("text", "data"),
        (5, "data"),
    ],
)
async def test_generate_preview_invalid(data: Any, field: str) -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    if isinstance(data, dict) and data.get("session_id") == "SESSION":
        data = data | {"session_id": session_id}
    told = await refused(fakes, "generate_preview", data)
    assert told["field"] == field
    assert "job_id" not in told
    assert fakes.synthesis.bodies == []
    assert fakes.keys(layout.JOBS) == []


async def test_save_voice() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    data = {"session_id": session_id, "name": "小明", "description": "calm", "request_id": "r1"}
    saved = {"voice_id": "xiao-ming", "name": "小明", "description": "calm", "request_id": "r1"}
    assert await ask(fakes, "save_voice", data) == {"type": "voice_saved", "data": saved}
    assert (await voices.get(fakes.resources, None, "xiao-ming")).name == "小明"


async def test_save_voice_of_last_session() -> None:
    fakes = FakeService()
    first, second, other = await fakes.session("1"), await fakes.session("2"), await fakes.session("3")
    for session_id, sender in [(first, HERE), (second, HERE), (other, THERE)]:
        await ask(fakes, "generate_preview", {"session_id": session_id, "text": "Hello."}, sender)
    answer = await ask(fakes, "save_voice", {"name": "Nova", "description": None})
    assert answer is not None
    assert answer["data"] == {"voice_id": "nova", "name": "Nova", "description": ""}
    assert (await voices.get(fakes.resources, None, "nova")).reference_id == second


async def test_save_voice_ignores_used_voice() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Old")
    await ask(fakes, "generate_preview", {"session_id": session_id, "text": "Hello."})
    await ask(fakes, "generate_preview", {"voice_id": "old", "text": "Hello."})
    await ask(fakes, "save_voice", {"name": "Nova"})
    assert (await voices.get(fakes.resources, None, "nova")).reference_id == session_id


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"name": "Nova"}, "session_id"),
        ({"session_id": "SESSION"}, "name"),
        ({"session_id": "SESSION", "name": ""}, "name"),
        ({"session_id": "SESSION", "name": "🎧"}, "name"),
        ({"session_id": "SESSION", "name": "a" * 81}, "name"),
        ({"session_id": "SESSION", "name": 7}, "name"),
        ({"session_id": "SESSION", "name": "Taken"}, "name"),
        ({"session_id": "SESSION", "name": "Nova", "description": "d" * 501}, "description"),
        ({"session_id": "SESSION", "name": "Nova", "description": 7}, "description"),
        ({"session_id": "SESSION", "name": "Nova", "description": "\udfff"}, "description"),
        ({"session_id": "nonsense", "name": "Nova"}, "session_id"),
        ({"session_id": 7, "name": "Nova"}, "session_id"),
    ],
)
async def test_save_voice_invalid(data: Message, field: str) -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Taken")
    if data.get("session_id") == "SESSION":
        data = data | {"session_id": await fakes.session()}
    before = fakes.voice_keys()
    assert (await refused(fakes, "save_voice", data))["field"] == field
    assert fakes.voice_keys() == before


async def test_expired_session_is_rejected() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.advance(hours=12)
    for type_, data in [("generate_preview", {"text": "Hello."}), ("save_voice", {"name": "Nova"})]:
        assert (await refused(fakes, type_, data | {"session_id": session_id}))["code"] == "expired"


async def test_stream_is_stored_for_subscriber() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await ask(fakes, "generate_preview", {"session_id": session_id, "text": "Hello.", "stream": True})
    request = await request_of(fakes)
    assert request.subscriber == Subscriber(reply_to=HERE, stream=True)
    await ask(fakes, "subscribe", {"job_id": request.job_id, "stream": True}, THERE)
    stored = fakes.bucket.objects[layout.subscriber(request.job_id, THERE.connection_id)]
    assert Subscriber.model_validate_json(stored.body) == Subscriber(reply_to=THERE, stream=True)


async def test_cancel_notifies_subscribers() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=THERE, request_id="r1"))
    answer = await ask(fakes, "cancel", {"job_id": request.job_id, "request_id": "r9"})
    assert answer == {"type": "cancelled", "data": {"job_id": request.job_id, "request_id": "r9"}}
    assert layout.cancellation(request.job_id) in fakes.bucket.objects
    await notify.notify(fakes.resources, notify.Lookups.of(fakes.resources), request.job_id)
    ((to, body),) = fakes.connections.posted
    told = json.loads(body)
    assert (to, told["type"], told["data"]["code"]) == (THERE.connection_id, "error", "cancelled")
    assert told["data"]["request_id"] == "r1"
    assert await ask(fakes, "cancel", {"job_id": request.job_id, "request_id": "r9"}) == answer


async def test_cancel_ended_job() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    answer = await ask(fakes, "cancel", {"job_id": request.job_id, "request_id": "r9"})
    assert answer is not None
    assert (answer["type"], answer["data"]["request_id"]) == ("tts_complete", "r9")
    assert layout.cancellation(request.job_id) not in fakes.bucket.objects


async def test_cancel_unknown_job() -> None:
    fakes = FakeService()
    assert (await refused(fakes, "cancel", {"job_id": fakes.resources.new_id()}))["code"] == "not_found"


async def test_subscribe_before_end() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=THERE))
    assert await ask(fakes, "subscribe", {"job_id": request.job_id, "request_id": "r9"}) is None
    await fakes.succeed(request)
    await notify.notify(fakes.resources, notify.Lookups.of(fakes.resources), request.job_id)
    told = {to: json.loads(body)["data"].get("request_id") for to, body in fakes.connections.posted}
    assert told == {"c2=": None, "c1=": "r9"}


async def test_subscribe_after_end() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=THERE, request_id="of-the-maker"))
    outcome = await fakes.succeed(request)
    answer = await ask(fakes, "subscribe", {"job_id": request.job_id, "request_id": "r9"})
    subscriber = Subscriber(reply_to=HERE, request_id="r9")
    assert answer == await server_messages.completion(fakes.resources, outcome, subscriber)
    answer = await ask(fakes, "subscribe", {"job_id": request.job_id})
    assert answer is not None
    assert "request_id" not in answer["data"]
    assert fakes.keys(layout.subscribers(request.job_id)) == []


async def test_subscribe_after_failure() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.fail(request)
    told = await refused(fakes, "subscribe", {"job_id": request.job_id})
    assert (told["job_id"], told["message"]) == (request.job_id, "It was not to be.")


@pytest.mark.parametrize("turns", range(0, 40, 2))
async def test_subscribe_races_outcome(turns: int) -> None:
    fakes = FakeService()
    request = await fakes.job()

    async def end() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await fakes.succeed(request)
        await notify.notify(fakes.resources, notify.Lookups.of(fakes.resources), request.job_id)

    answer, _ = await asyncio.gather(ask(fakes, "subscribe", {"job_id": request.job_id}), end())
    assert (answer is not None) + len(fakes.connections.posted) >= 1


async def test_subscribe_progress() -> None:
    fakes = FakeService()
    request = await fakes.job()
    answer = await ask(fakes, "subscribe", {"job_id": request.job_id, "progress": True})
    assert answer == {"type": "progress", "data": {"job_id": request.job_id, "status": "queued"}}


@pytest.mark.parametrize(
    "data",
    [{}, {"job_id": 5}, {"job_id": "nonsense"}, {"job_id": "ffffffffffff7fff8fffffffffffffff"}, {"job_id": None}],
)
async def test_subscribe_invalid(data: Message) -> None:
    fakes = FakeService()
    assert (await refused(fakes, "subscribe", data))["field"] == "job_id"
    assert fakes.keys() == []


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " ",
        "hello",
        "{",
        "[]",
        "null",
        "5",
        '"generate_preview"',
        "{}",
        '{"type": null}',
        '{"type": 5}',
        '{"type": ["generate_preview"]}',
        '{"data": {}}',
        '{"type": ""}',
        '{"type": "GENERATE_PREVIEW"}',
        '{"type": "tts_complete"}',
        '{"type": "__class__"}',
        "[" * 100_000,
        '{"type":"subscribe","data":' + '{"a":' * 20_000 + "1" + "}" * 20_000 + "}",
        '{"type": "generate_preview", "data": NaN}',
        '{"type": 1e999}',
        '{"type": ' + "9" * 5000 + "}",
        '{"type": "\\ud800"}',
        "\ufeff{}",
        "\x00",
        "x" * (MESSAGE_MAX_BYTES + 1),
        "小" * (MESSAGE_MAX_BYTES // 3 + 1),
        "x" * 10_000_000,
        b"",
        b"\x00\xff",
        b'{"type": "subscribe", "data": {"job_id": "x"}}',
    ],
)
async def test_malformed_message_gets_error(raw: str | bytes) -> None:
    answer = await answered(FakeService(), raw)
    assert answer is not None
    assert answer["type"] == "error"
    assert answer["data"]["code"] == "invalid_input"
    assert len(json.dumps(answer)) < 1000


async def test_unknown_type_gets_error() -> None:
    told = await refused(FakeService(), "sing", {"request_id": "r1"})
    assert all(type_ in told["message"] for type_ in CLIENT_MESSAGES)
    assert (told["field"], told["request_id"]) == ("type", "r1")


async def test_message_size_limit() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    message = {"type": "generate_preview", "data": {"session_id": session_id, "text": "Hello."}}
    raw = json.dumps(message).ljust(MESSAGE_MAX_BYTES)
    assert len(raw) == MESSAGE_MAX_BYTES
    assert await answered(fakes, raw) is None


@pytest.mark.parametrize("type_", CLIENT_MESSAGES)
async def test_error_repeats_request_id(type_: str) -> None:
    assert (await refused(FakeService(), type_, {"request_id": "r1"}))["request_id"] == "r1"
    assert "request_id" not in await refused(FakeService(), type_, {"request_id": 5})
    assert "request_id" not in await refused(FakeService(), type_, {})


async def test_error_with_surrogate_is_encodable() -> None:
    told = await refused(FakeService(), "sing", {"request_id": "\ud800"})
    assert json.dumps(told).encode()


@pytest.mark.parametrize("type_", CLIENT_MESSAGES)
async def test_storage_unavailable_hides_address(type_: str) -> None:
    fakes = FakeService()
    request = await fakes.job()
    session = {"session_id": request.source.session_id}
    data: dict[str, dict[str, Any]] = {
        "generate_preview": {**session, "text": "Hello."},
        "save_voice": {**session, "name": "Nova"},
        "subscribe": {"job_id": request.job_id},
        "cancel": {"job_id": request.job_id},
    }
    fakes.bucket.switch.is_up = False
    told = await refused(fakes, type_, data[type_] | {"request_id": "r1"})
    assert (told["code"], told["request_id"]) == ("unavailable", "r1")
    assert "switched off" not in told["message"]


async def test_queue_unavailable_withdraws_job() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.synthesis.switch.is_up = False
    assert (await refused(fakes, "generate_preview", {"session_id": session_id, "text": "Hello."}))["code"] == (
        "unavailable"
    )
    assert fakes.keys(layout.JOBS) == []


async def test_unexpected_error_is_sent() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(0, ZeroDivisionError)
    told = await refused(fakes, "generate_preview", {"session_id": session_id, "text": "Hello."})
    assert told["code"] == "internal_error"
    assert "simulated failure" not in told["message"]


async def test_forget_storage_unavailable() -> None:
    fakes = FakeService()
    await ask(fakes, "generate_preview", {"session_id": await fakes.session(), "text": "Hello."})
    assert fakes.keys(layout.CONNECTIONS) == [layout.connection(HERE)]
    fakes.bucket.switch.is_up = False
    await dispatcher_of(fakes).forget(HERE)
    fakes.bucket.switch.is_up = True
    await dispatcher_of(fakes).forget(HERE)
    assert fakes.keys(layout.CONNECTIONS) == []


async def test_request_id_beside_type() -> None:
    fakes = FakeService()
    message = {"type": "cancel", "request_id": "r1", "data": {"job_id": (await fakes.job()).job_id}}
    response = await answered(fakes, json.dumps(message))
    assert response is not None
    assert (response["type"], response["data"]["request_id"]) == ("cancelled", "r1")


@pytest.mark.parametrize(
    ("more", "field", "request_id"),
    [
        ({"text": "Hello."}, "text", None),
        ({"request_id": "r1", "seed": 7}, "seed", "r1"),
        ({"request_id": "r1", "data": {"request_id": "r2"}}, "request_id", "r2"),
        ({"request_id": 7, "data": {"text": "Hello."}}, "request_id", None),
        ({"request_id": "r1"}, "text", "r1"),
        ({"\ud800": 1}, "\\ud800", None),
    ],
)
async def test_top_level_fields_invalid(more: Message, field: str, request_id: str | None) -> None:
    response = await answered(FakeService(), json.dumps({"type": "generate_preview"} | more))
    assert response is not None
    assert (response["data"]["field"], response["data"].get("request_id")) == (field, request_id)


async def test_generate_preview_format() -> None:
    fakes = FakeService()
    data = {"session_id": await fakes.session(), "text": "Hello."}
    assert (await refused(fakes, "generate_preview", data | {"format": "mp5"}))["field"] == "format"
    assert await ask(fakes, "generate_preview", data | {"format": "mp3"}) is None
    request = await request_of(fakes)
    outcome = await fakes.succeed(request)
    message = await server_messages.completion(fakes.resources, outcome, request.subscriber)
    assert message["data"]["audio_url"] == f"/previews/{request.job_id}.mp3"
    late = await ask(fakes, "subscribe", {"job_id": request.job_id, "speed": 1.5}, THERE)
    assert late is not None
    assert late["data"]["audio_url"].endswith(".wav?speed=1.5")


@pytest.mark.parametrize("speed", [0, 0.2, 4.1, "2", None, True])
async def test_generate_preview_speed_invalid(speed: object) -> None:
    fakes = FakeService()
    data = {"session_id": await fakes.session(), "text": "Hello.", "speed": speed}
    assert (await refused(fakes, "generate_preview", data))["field"] == "speed"
