"""Scenarios for each entry point that make all of its AWS calls."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from functions.aws.websocket_routes import Routes
from functions.background import dead_letters, notify, sweep, webhooks
from gpu_runner.dependency_health import Dependencies
from gpu_runner.engines.mock import MockEngine
from gpu_runner.health import Health
from gpu_runner.synthesis.revocations import Revocations
from pipeline.access import api_keys, webhook_receivers, ws_tickets
from pipeline.access.key_lookup import KeyLookup
from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import encode_wav, encoded
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.clients.webhook_client import WebhookRefused
from pipeline.contract import layout
from pipeline.contract.messages.webhooks import WebhookDelivery
from pipeline.contract.records import ReplyTo, Request, Source, Subscriber
from pipeline.domain import acceptance, jobs, sessions, voice_changes, webhook_attempts
from pipeline.domain.consents import giving
from pipeline.domain.consents.giving import Terms
from pipeline.domain.revocation import derived
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.marking.manifest import Origin
from pipeline.provenance.manifests import Manifests
from tests.infra.roles.recorded_calls import RecordedCall, Recorder
from tests.support.aws_events import recorded
from tests.support.fake_service import Crash, FailAfter, FakeService, reference_recording
from tests.support.fakes.switch import Switch
from tests.support.waiting import until
from tests.support.workers import real_time_worker
from tests.unit.functions.access.test_authorization import (
    CALLS,
    MESSAGES,
    Belongings,
    bearer,
    belongings,
    call,
    client_of,
    key_of,
)

CLIENT = "XfGLwd8ZtjMCJHw="

REPLY_TO = ReplyTo(endpoint="https://here/ws", connection_id=CLIENT)

ROLES = {
    "http": ("http-roles", "HttpRole"),
    "connect": ("websocket-roles", "ConnectRole"),
    "disconnect": ("websocket-roles", "DisconnectRole"),
    "default": ("websocket-roles", "DefaultRole"),
    "notify": ("background-roles", "NotifyRole"),
    "webhooks": ("background-roles", "WebhooksRole"),
    "dead_letters": ("background-roles", "DeadLettersRole"),
    "sweep": ("sweep-role", "SweepRole"),
    "worker": ("worker", "WorkerRole"),
}


async def http(fakes: FakeService, recorder: Recorder) -> None:
    for number, what in enumerate(CALLS):
        owner = f"alice-{number}"
        owned, key = await belongings(fakes, owner), await key_of(fakes, owner, "admin")
        await webhook_attempts.enqueue(fakes.resources, owned.job_id, owner, "https://example.com/")
        async with client_of(watched(fakes, recorder)) as client:
            assert (await call(client, what, owned, key)).is_success
    async with client_of(watched(fakes, recorder)) as client:
        assert (await client.get("/health")).is_success
        await _repeat(client, key)
        await _upload_by_form(fakes, client, key)
        await _use_speakers_links(fakes, client)
        fakes.synthesis.switch.is_up = False
        assert (await call(client, CALLS[0], owned, key)).status_code == 503
    await _verify(watched(fakes, recorder), key)


async def _verify(fakes: FakeService, key: str) -> None:
    """Verify audio with a manifest, whose certificate is created."""
    fakes.resources = _marked(fakes.resources)
    origin = Origin(fakes.resources.new_id(), fakes.time(), "mock")
    wav = await Manifests(fakes.resources).add(encode_wav(reference_recording()), "audio/wav", origin)
    async with client_of(fakes) as client:
        assert (await client.post("/verify", files={"audio": wav}, headers=bearer(key))).is_success


def _marked(resources: Resources) -> Resources:
    return replace(resources, settings=resources.settings.model_copy(update={"mark": "c2pa"}))


async def _use_speakers_links(fakes: FakeService, client: Any) -> None:
    """Get the receipt of a saved voice's consent, and revoke the consent."""
    owned, key = await belongings(fakes, "bob"), await key_of(fakes, "bob", "admin")
    await _given_consent(client, key, session_id=owned.session_id)
    saved = {"session_id": owned.session_id, "name": "With consent"}
    assert (await client.post("/voices", json=saved, headers=bearer(key))).is_success
    made = await _given_consent(client, key, voice_id="with-consent")
    renewed = {"consent_id": made["consent_id"]}
    assert (await client.put("/voices/with-consent/consent", json=renewed, headers=bearer(key))).is_success
    path = f"/consents/{made['consent_id']}/review"
    assert (await client.post(path, json={"decision": "accepted"}, headers=bearer(key))).is_success
    assert (await client.get(made["receipt_url"])).is_success
    assert (await client.post(made["revocation_url"])).is_success


async def _given_consent(client: Any, key: str, **reference: str) -> dict[str, Any]:
    terms = {"person": "Ann", "purposes": ["books"], "language": "en"} | reference
    made: dict[str, Any] = (await client.post("/consents", json=terms, headers=bearer(key))).json()
    recording = {"recording": encode_wav(reference_recording())}
    path, headers = f"/consents/{made['consent_id']}/recording", bearer(key) | {"Prefer": "respond-async"}
    assert (await client.post(path, files=recording, headers=headers)).is_success
    return made


async def _repeat(client: Any, key: str) -> None:
    headers = bearer(key) | {"Idempotency-Key": "one"}
    for _ in range(2):
        assert (await client.post("/uploads", headers=headers)).is_success
    nobody = {"voice_id": "nobody", "response_text": "Hello."}
    headers = bearer(key) | {"Idempotency-Key": "two"}
    answer = await client.post("/preview-from-voice", data=nobody, headers=headers)
    assert answer.status_code == 404
    with_webhook = nobody | {"webhook_url": "https://example.com/"}
    assert (await client.post("/preview-from-voice", data=with_webhook, headers=bearer(key))).status_code == 422


async def _upload_by_form(fakes: FakeService, client: Any, key: str) -> None:
    session_id = (await client.post("/uploads", headers=bearer(key))).json()["session_id"]
    await fakes.bucket.put(
        layout.session(session_id).unchecked_audio, encode_wav(reference_recording()), "audio/wav"
    )
    form = {"session_id": session_id, "response_text": "Hello."}
    answer = await client.post("/preview", data=form, headers=bearer(key) | {"Prefer": "respond-async"})
    assert answer.status_code == 202


def watched(fakes: FakeService, recorder: Recorder) -> FakeService:
    """Return the same service with all calls recorded."""
    copy = object.__new__(FakeService)
    copy.__dict__ |= fakes.__dict__ | {"resources": recorder.wrap(fakes.resources)}
    return copy


async def connect(fakes: FakeService, recorder: Recorder) -> None:
    routes = Routes(recorder.wrap(fakes.resources))
    key = await key_of(fakes, "alice")
    event = recorded("websocket_connect")
    by_key = event | {"headers": {"Authorization": f"Bearer {key}"}, "queryStringParameters": None}
    assert await routes.connect(by_key) == {"statusCode": 200}
    caller = await KeyLookup(fakes.resources).caller(key)
    ticket, _ = await ws_tickets.issue(fakes.resources, caller)
    event["queryStringParameters"] = {"ticket": ticket}
    assert await routes.connect(event) == {"statusCode": 200}


async def disconnect(fakes: FakeService, recorder: Recorder) -> None:
    await Routes(recorder.wrap(fakes.resources)).disconnect(recorded("websocket_disconnect"))


async def default(fakes: FakeService, recorder: Recorder) -> None:
    key = await key_of(fakes, "alice")
    routes = Routes(recorder.wrap(fakes.resources))
    owned = await belongings(fakes, "alice")
    waiting = await _job(fakes, "alice")
    event = recorded("websocket_connect") | {"headers": {"Authorization": f"Bearer {key}"}}
    event["queryStringParameters"] = None
    assert await Routes(fakes.resources).connect(event) == {"statusCode": 200}
    messages = [(type_, data) for type_, some in MESSAGES.items() for data in some(owned)]
    messages += [("subscribe", {"job_id": waiting.job_id}), ("save_voice", {"name": "The last one"})]
    messages += [("subscribe", {"job_id": owned.job_id, "signed": True})]
    await webhook_receivers.make_secret(fakes.resources, "alice")
    with_webhook = {"voice_id": owned.voice_id, "text": "Hello.", "webhook_url": "https://example.com/"}
    messages += [("generate_preview", with_webhook)]
    messages += [("generate_preview", {"session_id": await _form(fakes), "text": "Hello.", "progress": True})]
    messages += [("save_voice", {"session_id": await _form(fakes), "name": "Without a prompt"})]
    messages += [("save_voice", {"session_id": await _session_with_consent(fakes), "name": "With consent"})]
    for type_, data in messages:
        assert await routes.default(_message_event(type_, data)) == {"statusCode": 200}
    assert not [body for _, body in fakes.connections.posted if '"error"' in body]
    fakes.synthesis.switch.is_up = False
    await routes.default(_message_event(*messages[0]))
    for key_id in fakes.voice_keys(layout.KEYS):
        await api_keys.revoke(fakes.resources, layout.id_in(key_id, layout.KEYS))
    fakes.advance(hours=1)
    await routes.default(_message_event("nonsense", {}))
    assert fakes.connections.closed == [CLIENT]
    fakes.connections.gone.add(CLIENT)
    await routes.default(_message_event("nonsense", {}))


async def _session_with_consent(fakes: FakeService) -> str:
    resources, session_id = fakes.resources, await _form(fakes)
    source = Source(session_id=session_id, owner="alice")
    asked, _ = await giving.prepare(resources, "alice", source, Terms("Ann", ["books"]), "en")
    await giving.give(resources, "alice", asked.consent_id, encoded(reference_recording()))
    return session_id


async def _form(fakes: FakeService) -> str:
    session_id, _ = await sessions.open_upload(fakes.resources, "alice", "What I say.")
    await fakes.bucket.put(
        layout.session(session_id).unchecked_audio, encode_wav(reference_recording()), "audio/wav"
    )
    return session_id


def _message_event(type_: str, data: dict[str, Any]) -> dict[str, Any]:
    return recorded("websocket_message") | {"body": json.dumps({"type": type_, "data": data})}


async def _job(fakes: FakeService, owner: str | None, *, voice_id: str | None = None, **more: Any) -> Request:
    session_id = None
    if voice_id is None:
        session_id = new_id(fakes.resources.new_id, owner)
        await sessions.store(fakes.resources, owner, session_id, encoded(reference_recording()), "What I say.")
    request = Request(
        job_id=new_id(fakes.resources.new_id, owner),
        kind=more.pop("kind", "preview"),
        source=Source(session_id=session_id, voice_id=voice_id, owner=owner),
        reference_id=session_id or more.pop("reference_id"),
        text="Hello, this is a longer text.",
        created_at=fakes.time(),
        **more,
    )
    await acceptance.accept(fakes.resources, request)
    return request


async def notify_(fakes: FakeService, recorder: Recorder) -> None:
    resources = recorder.wrap(fakes.resources)
    text = await key_of(fakes, "alice")
    caller = await KeyLookup(fakes.resources).caller(text)
    reply_to = REPLY_TO.model_copy(update={"key_id": caller.key_id})
    more = {"webhook_url": "https://example.com/"}
    request = await _job(fakes, "alice", subscriber=Subscriber(reply_to=reply_to, signed=True), **more)
    other = Subscriber(reply_to=ReplyTo(endpoint="https://here/ws", connection_id="other"), request_id=None)
    key = layout.subscriber(request.job_id, "other")
    await fakes.bucket.put(key, other.to_json(), JSON)
    await fakes.succeed(request)
    fakes.connections.gone.add("other")
    without_receiver = await _job(fakes, "alice")
    await fakes.succeed(without_receiver)
    messages = {"FIRST_JOB_ID": request.job_id, "SECOND_JOB_ID": without_receiver.job_id}
    await notify.handle(resources, recorded("sqs_s3_created", **messages), lookups=notify.Lookups.of(resources))
    assert {to for to, _ in fakes.connections.posted} == {CLIENT}
    await fakes.bucket.put(key, other.to_json(), JSON)
    fakes.connections.gone.clear()
    fakes.connections.unreachable.add("other")
    await notify.handle(resources, recorded("sqs_s3_created", **messages), lookups=notify.Lookups.of(resources))
    assert len(fakes.events.bodies) == 1


class RefusingClient:
    """A client of receivers that refuse all messages."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        raise WebhookRefused("no", is_final=True)


async def webhooks_(fakes: FakeService, recorder: Recorder) -> None:
    await webhook_receivers.make_secret(fakes.resources, "alice")
    request = await _job(fakes, "alice")
    await fakes.succeed(request)
    body = WebhookDelivery(job_id=request.job_id, url="https://example.com/").to_json().decode()
    record = {"messageId": "m", "receiptHandle": "r", "body": body, "attributes": {"ApproximateReceiveCount": "1"}}
    await webhooks.handle(recorder.wrap(fakes.resources), {"Records": [record]}, RefusingClient())
    assert await jobs.webhook_error(fakes.resources, request.job_id) == "no"


async def dead_letters_(fakes: FakeService, recorder: Recorder) -> None:
    request = await _job(fakes, "alice")
    messages = {"FIRST_JOB_ID": request.job_id, "SECOND_JOB_ID": fakes.resources.new_id()}
    await dead_letters.handle(recorder.wrap(fakes.resources), recorded("sqs_dead_letters", **messages))


async def sweep_(fakes: FakeService, recorder: Recorder) -> None:
    resources = recorder.wrap(fakes.resources)
    owned = await belongings(fakes, "alice")
    text = await key_of(fakes, "alice")
    async with client_of(fakes) as client:
        await client.get("/voices", headers=bearer(text))
        await client.post("/ws-tickets", headers=bearer(text))
        await client.post("/uploads", headers=bearer(text) | {"Idempotency-Key": "one"})
    await fakes.bucket.put(layout.connection(REPLY_TO), b"{}", JSON)
    await fakes.bucket.put(
        layout.fingerprint("alice", fakes.resources.new_id()) + "000-AAAAAA==", b"", "text/plain"
    )
    await _crash_while_saving(fakes, owned.session_id)
    await _revoke(fakes, owned)
    late = await _job(fakes, "alice")
    await webhook_attempts.enqueue(fakes.resources, late.job_id, "alice", "https://example.com/")
    for minutes in (1, 5, 15, 40, 24 * 60, 24 * 60):
        fakes.advance(minutes=minutes)
        await sweep.handle(resources, {})
    assert layout.request(late.job_id) not in fakes.bucket.objects


async def _revoke(fakes: FakeService, owned: Belongings) -> None:
    """Revoke a voice, of which a job ends at that moment."""
    await revoke_voice(fakes.resources, "alice", owned.voice_id, "deleted")
    late = await _job(fakes, "alice", voice_id=owned.voice_id, reference_id=owned.session_id)
    await fakes.succeed(late)
    (record,) = fakes.keys(layout.IDEMPOTENCY)[:1]
    await derived.mark_response(fakes.resources, owned.session_id, record)


async def _crash_while_saving(fakes: FakeService, session_id: str) -> None:
    """Leave one voice half saved, and one saved without a request for its embedding."""
    await fakes.bucket.delete([layout.session(session_id).embedding])
    for name in ("Half", "Whole"):
        if name == "Half":
            fakes.fail_after(12)
        else:
            fakes.synthesis.switch = FailAfter()
        with pytest.raises(Crash, match="simulated failure"):
            await voice_changes.save(fakes.resources, "alice", session_id, name)
        fakes.recover()


async def worker(fakes: FakeService, recorder: Recorder) -> None:
    resources = _marked(recorder.wrap(fakes.resources))
    owned = await belongings(fakes, "alice")
    await fakes.bucket.delete([key for key in fakes.bucket.objects if owned.job_id in key])
    keys = layout.voice_reference("alice", owned.voice_id, owned.session_id)
    await fakes.voices.delete([keys.embedding])
    saved: dict[str, Any] = {
        "voice_id": owned.voice_id,
        "reference_id": owned.session_id,
        "reference_folder": keys.folder,
    }
    done = [
        await _job(fakes, "alice", subscriber=Subscriber(reply_to=REPLY_TO, stream=True)),
        await _job(fakes, "alice", **saved),
        await _job(fakes, "alice", **saved, kind="embedding"),
    ]
    await fakes.bucket.put(layout.preview(done[0].job_id), encode_wav(reference_recording()), "audio/wav")
    cancelled = await _job(fakes, "alice")
    await fakes.fail(cancelled)
    await fakes.bucket.put(layout.fingerprint("alice", cancelled.job_id) + "000-AAAAAA==", b"", "text/plain")
    deleted = RecordedCall("s3:DeleteObject", f"EphemeralBucket/{layout.preview(cancelled.job_id)}")
    fakes.voices.switch = DeletesVoice(fakes, layout.voice("alice", owned.voice_id).metadata)
    await Revocations(resources).poll()
    unreadable = fakes.resources.new_id()
    await fakes.bucket.put(layout.request(unreadable), b"{}", JSON)
    await acceptance.enqueue(fakes.resources, unreadable)
    await Health(resources, Dependencies(fakes.time), phase="ready").report()
    async with real_time_worker(resources, MockEngine()):
        await until(lambda: {layout.outcome(job.job_id) for job in done} <= set(fakes.bucket.objects))
        await until(lambda: deleted in recorder.calls)


class DeletesVoice(Switch):
    """Deletes a voice while its prompt is stored."""

    def __init__(self, fakes: FakeService, metadata_key: str) -> None:
        super().__init__()
        self._delete = partial(fakes.voices.objects.pop, metadata_key, None)

    async def passed(self, call: str) -> None:
        await super().passed(call)
        if call == "put":
            self._delete()


SCENARIOS: dict[str, Callable[[FakeService, Recorder], Awaitable[None]]] = {
    "http": http,
    "connect": connect,
    "disconnect": disconnect,
    "default": default,
    "notify": notify_,
    "webhooks": webhooks_,
    "dead_letters": dead_letters_,
    "sweep": sweep_,
    "worker": worker,
}
