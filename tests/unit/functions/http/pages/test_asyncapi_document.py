"""`/asyncapi.json` compared with the messages that are sent and received."""

import json
import re
from typing import Any, get_args

import jsonschema_rs
import pytest

from functions.background.webhooks import body_of
from functions.http.pages.asyncapi_document import EVENTS, WEBHOOKS, document
from functions.http.previews.job_events import JobEvent, ended, queued, reported
from functions.websocket import server_messages
from functions.websocket.client_messages import CLIENT_MESSAGES
from functions.websocket.server_messages import SERVER_MESSAGES
from pipeline.contract.messages.stream_messages import AudioChunk, AudioProgress, StreamStarted, stream_message
from pipeline.contract.records import Options, Outcome, ReferenceCheck, ReferenceWarning, ReplyTo, Subscriber
from pipeline.errors import InvalidInput
from tests.support.api import api
from tests.support.fake_service import FakeService
from tests.unit.functions.websocket.test_dispatch import answered, ask

Message = dict[str, Any]
HERE = ReplyTo(endpoint="http://127.0.0.1:9", connection_id="c1=", base_url="http://here/")
STARTED = StreamStarted(job_id="j", take="t", restarted=True, request_id="r")
GENERATING = AudioProgress(job_id="j", take="t", audio_seconds=1.5)
CHUNK = AudioChunk(job_id="j", take="t", seq=0, sample_rate=24_000, audio_seconds=0.1, audio="AAAA")


def described_as(name: str, message: Message) -> None:
    """Assert that a message is valid, and has no field that is not described."""
    described = document()
    schema = described["components"]["messages"][name]["payload"]
    jsonschema_rs.validator_for(schema | {"components": described["components"]}).validate(message)
    data = described["components"]["schemas"][schema["properties"]["data"]["$ref"].rpartition("/")[2]]
    assert set(message) == set(schema["properties"]) - {"request_id"}
    assert set(message["data"]) <= set(data["properties"])


async def sent_messages(fakes: FakeService) -> list[tuple[str, Message | None]]:
    """Return every kind of message that the code sends to clients."""
    subscriber = Subscriber(reply_to=HERE, request_id="r", signed=True)
    made, failed, waiting = await fakes.job(), await fakes.job(), await fakes.job()
    succeeded = (await fakes.succeed(made)).model_copy(update={"warnings": ("It was cut.",)})
    ended_badly = await fakes.fail(failed)
    embedding = succeeded.model_copy(update={"preview": None})
    fault = ReferenceWarning(code="noise", message="There is noise.", advice="Record in a quiet room.")
    checked = embedding.model_copy(
        update={"kind": "check", "reference_check": ReferenceCheck(warnings=(fault,), measures={"seconds": 2.0})}
    )
    session_id = await fakes.session()
    return [
        ("tts_complete", await server_messages.completion(fakes.resources, succeeded, subscriber)),
        ("embedding_complete", await server_messages.completion(fakes.resources, embedding, subscriber)),
        ("reference_checked", await server_messages.completion(fakes.resources, checked, subscriber)),
        ("error", await server_messages.completion(fakes.resources, ended_badly, subscriber)),
        ("error", server_messages.error(InvalidInput("wrong", field="text"), request_id="r")),
        ("error", await answered(fakes, "nonsense")),
        ("voice_saved", await ask(fakes, "save_voice", {"session_id": session_id, "name": "Nova"})),
        ("queued", server_messages.queued("r", waiting.job_id, 3)),
        ("cancelled", await ask(fakes, "cancel", {"job_id": waiting.job_id, "request_id": "r"})),
        ("started", json.loads(stream_message(STARTED))),
        ("generating", json.loads(stream_message(GENERATING))),
        ("tts_audio", json.loads(stream_message(CHUNK))),
    ]


async def test_sent_messages_match_schema() -> None:
    sent = await sent_messages(FakeService())
    assert {name for name, _ in sent} == set(SERVER_MESSAGES)
    assert sent[0][1] is not None
    assert sent[0][1]["data"]["finish_reason"] == "stop"
    for name, message in sent:
        assert message is not None
        described_as(name, message)


@pytest.mark.parametrize("name", SERVER_MESSAGES)
async def test_schema_rejects_other_fields(name: str) -> None:
    message = next(message for other, message in await sent_messages(FakeService()) if other == name)
    assert message is not None
    with pytest.raises(AssertionError):
        described_as(name, message | {"data": message["data"] | {"new": 1}})
    with pytest.raises(jsonschema_rs.ValidationError):
        described_as(name, message | {"type": "other"})


def test_client_messages_described() -> None:
    assert set(CLIENT_MESSAGES) <= set(document()["components"]["messages"])
    fields = document()["components"]["schemas"]["GeneratePreview"]["properties"]
    assert set(Options.model_fields) <= set(fields)
    described_as("generate_preview", {"type": "generate_preview", "data": {"text": "Hello.", "seed": 7}})


async def test_event_data_described() -> None:
    fakes = FakeService()
    made, failed = await fakes.job(), await fakes.job()
    events: dict[str, JobEvent] = {
        "queued": queued(made.job_id, 2),
        "started": reported(STARTED),
        "generating": reported(GENERATING),
        "tts_complete": await ended(fakes.resources, await fakes.succeed(made)),
        "error": await ended(fakes.resources, await fakes.fail(failed)),
    }
    assert set(events) | {"embedding_complete", "reference_checked"} == set(EVENTS)
    names = get_args(JobEvent.__dataclass_fields__["name"].type)
    assert {event.name for event in events.values()} == set(names)
    for name, event in events.items():
        described_as(name, json.loads(event.data))


async def test_webhook_body_described() -> None:
    fakes = FakeService()
    made, failed = await fakes.job(), await fakes.job()
    outcomes: dict[str, Outcome] = {"tts_complete": await fakes.succeed(made), "error": await fakes.fail(failed)}
    assert set(outcomes) == set(WEBHOOKS)
    for name, outcome in outcomes.items():
        described_as(WEBHOOKS[name], json.loads(await body_of(fakes.resources, outcome)))


async def test_message_is_equal_on_all_channels() -> None:
    fakes = FakeService()
    outcome = await fakes.succeed(await fakes.job())
    event = json.loads((await ended(fakes.resources, outcome)).data)
    webhook = json.loads(await body_of(fakes.resources, outcome))
    socket = await server_messages.completion(fakes.resources, outcome, Subscriber(reply_to=HERE))
    assert event == webhook == socket


async def test_document_is_self_contained() -> None:
    async with api(FakeService()) as client:
        served = (await client.get("/asyncapi.json")).json()
    assert served == document()
    for reference in re.findall(r'"\$ref": "#/(.*?)"', json.dumps(served)):
        found: Any = served
        for part in reference.split("/"):
            found = found[part]
