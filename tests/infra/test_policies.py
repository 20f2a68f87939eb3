"""Each role allows what its entry point does and nothing else: every way through it is gone, and watched."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from functions.aws.websocket_routes import Routes
from functions.background import dead_letters, notify, sweep, webhooks
from gpu_runner.dependency_health import Dependencies
from gpu_runner.engines.mock import MockEngine
from gpu_runner.health import Health
from pipeline.access import api_keys, webhook_receivers, ws_tickets
from pipeline.access.key_lookup import KeyLookup
from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import encode_wav, encoded
from pipeline.clients.storage import JSON
from pipeline.clients.webhook_client import WebhookRefused
from pipeline.contract import layout
from pipeline.contract.messages.webhooks import WebhookDelivery
from pipeline.contract.records import ReplyTo, Request, Source, Subscriber
from pipeline.domain import jobs, sessions, voice_changes
from tests.infra.templates import several, statements
from tests.infra.watched import Watch
from tests.support.aws_events import recorded
from tests.support.fake_service import FakeService, reference_recording
from tests.support.waiting import until
from tests.support.workers import real_time_worker
from tests.unit.functions.access.test_authorization import (
    CALLS,
    MESSAGES,
    SETTINGS,
    bearer,
    belongings,
    call,
    client_of,
    key_of,
)

CLIENT = "XfGLwd8ZtjMCJHw="
HERE = ReplyTo(endpoint="https://here/ws", connection_id=CLIENT)

ROLES = {
    "http": ("http-roles", "HttpRole"),
    "connect": ("websocket-roles", "ConnectRole"),
    "disconnect": ("websocket-roles", "DisconnectRole"),
    "default": ("websocket-roles", "DefaultRole"),
    "notify": ("background-roles", "NotifyRole"),
    "webhooks": ("background-roles", "WebhooksRole"),
    "dead_letters": ("background-roles", "DeadLettersRole"),
    "sweep": ("background-roles", "SweepRole"),
    "worker": ("worker", "WorkerRole"),
}
OF_LAMBDA = {"logs:CreateLogStream", "logs:PutLogEvents"}
TAKING = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
# Lambda itself takes messages off the queues of functions, and the worker asks ECS through the agent.
BESIDES = {"notify": TAKING, "webhooks": TAKING, "dead_letters": TAKING, "worker": {"ecs:UpdateTaskProtection"}}


def allowed(name: str) -> set[tuple[str, str]]:
    """Return what a role allows, as actions and patterns of targets."""
    return {
        (action, pattern)
        for statement in statements(*ROLES[name])
        for action in several(statement["Action"])
        for pattern in patterns(statement)
    }


def patterns(statement: dict[str, Any]) -> list[str]:
    if "s3:ListBucket" in several(statement["Action"]):
        bucket = statement["Resource"]["Fn::Sub"].split("${")[-1].rstrip("}")
        return [f"{bucket}/{prefix}" for prefix in statement["Condition"]["StringLikeIfExists"]["s3:prefix"]]
    return [_pattern(resource) for resource in several(statement["Resource"])]


def _pattern(resource: dict[str, Any]) -> str:
    if "Fn::Sub" in resource:
        text: str = resource["Fn::Sub"]
        if "@connections" in text:
            return text.split("/")[-3]
        return text.rsplit(":::", 1)[-1].replace("${", "").replace("}", "")
    if resource == {"Ref": "PostArn"}:
        return "POST"
    return str(resource.get("Ref") or ".".join(resource["Fn::GetAtt"]))


async def http(fakes: FakeService, watch: Watch) -> None:
    for number, what in enumerate(CALLS):
        owner = f"alice-{number}"
        its, key = await belongings(fakes, owner), await key_of(fakes, owner, "admin")
        async with client_of(watched(fakes, watch)) as client:
            assert (await call(client, what, its, key)).is_success
    async with client_of(watched(fakes, watch)) as client:
        assert (await client.get("/health")).is_success
        await _repeat(client, key)
        await _upload_by_form(fakes, client, key)
        fakes.synthesis.switch.is_up = False
        assert (await call(client, CALLS[0], its, key)).status_code == 503


async def _repeat(client: Any, key: str) -> None:
    headers = bearer(key) | {"Idempotency-Key": "one"}
    for _ in range(2):
        assert (await client.post("/uploads", headers=headers)).is_success
    nobody = {"voice_id": "nobody", "response_text": "Hello."}
    headers = bearer(key) | {"Idempotency-Key": "two"}
    answer = await client.post("/preview-from-voice", data=nobody, headers=headers)
    assert answer.status_code == 404
    told = nobody | {"webhook_url": "https://example.com/"}
    assert (await client.post("/preview-from-voice", data=told, headers=bearer(key))).status_code == 422


async def _upload_by_form(fakes: FakeService, client: Any, key: str) -> None:
    session_id = (await client.post("/uploads", headers=bearer(key))).json()["session_id"]
    await fakes.bucket.put(
        layout.session(session_id).unchecked_audio, encode_wav(reference_recording()), "audio/wav"
    )
    form = {"session_id": session_id, "response_text": "Hello."}
    answer = await client.post("/preview", data=form, headers=bearer(key) | {"Prefer": "respond-async"})
    assert answer.status_code == 202


def watched(fakes: FakeService, watch: Watch) -> FakeService:
    """Return the same resources with every call recorded."""
    copy = object.__new__(FakeService)
    copy.__dict__ |= fakes.__dict__ | {"resources": watch.over(fakes.resources)}
    return copy


async def connect(fakes: FakeService, watch: Watch) -> None:
    routes = Routes(watch.over(fakes.resources))
    key = await key_of(fakes, "alice")
    event = recorded("websocket_connect")
    by_key = event | {"headers": {"Authorization": f"Bearer {key}"}, "queryStringParameters": None}
    assert await routes.connect(by_key) == {"statusCode": 200}
    caller = await KeyLookup(fakes.resources).caller(key)
    ticket, _ = await ws_tickets.issue(fakes.resources, caller)
    event["queryStringParameters"] = {"ticket": ticket}
    assert await routes.connect(event) == {"statusCode": 200}


async def disconnect(fakes: FakeService, watch: Watch) -> None:
    await Routes(watch.over(fakes.resources)).disconnect(recorded("websocket_disconnect"))


async def default(fakes: FakeService, watch: Watch) -> None:
    key = await key_of(fakes, "alice")
    routes = Routes(watch.over(fakes.resources))
    its = await belongings(fakes, "alice")
    waiting = await _job(fakes, "alice")
    event = recorded("websocket_connect") | {"headers": {"Authorization": f"Bearer {key}"}}
    event["queryStringParameters"] = None
    assert await Routes(fakes.resources).connect(event) == {"statusCode": 200}
    said = [(type_, data) for type_, some in MESSAGES.items() for data in some(its)]
    said += [("subscribe", {"job_id": waiting.job_id}), ("save_voice", {"name": "The last one"})]
    said += [("subscribe", {"job_id": its.job_id, "signed": True})]
    await webhook_receivers.make_secret(fakes.resources, "alice")
    told = {"voice_id": its.voice_id, "text": "Hello.", "webhook_url": "https://example.com/"}
    said += [("generate_preview", told)]
    said += [("generate_preview", {"session_id": await _form(fakes), "text": "Hello.", "progress": True})]
    said += [("save_voice", {"session_id": await _form(fakes), "name": "Without a prompt"})]
    for type_, data in said:
        assert await routes.default(_saying(type_, data)) == {"statusCode": 200}
    assert not [body for _, body in fakes.connections.posted if '"error"' in body]
    fakes.synthesis.switch.is_up = False
    await routes.default(_saying(*said[0]))
    for key_id in fakes.voice_keys(layout.KEYS):
        await api_keys.revoke(fakes.resources, layout.id_in(key_id, layout.KEYS))
    fakes.advance(hours=1)
    await routes.default(_saying("nonsense", {}))
    assert fakes.connections.closed == [CLIENT]
    fakes.connections.gone.add(CLIENT)
    await routes.default(_saying("nonsense", {}))


async def _form(fakes: FakeService) -> str:
    session_id, _ = await sessions.open_upload(fakes.resources, "alice", "What I say.")
    await fakes.bucket.put(
        layout.session(session_id).unchecked_audio, encode_wav(reference_recording()), "audio/wav"
    )
    return session_id


def _saying(type_: str, data: dict[str, Any]) -> dict[str, Any]:
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
        text="Hello.",
        created_at=fakes.time(),
        **more,
    )
    await jobs.accept(fakes.resources, request)
    return request


async def notify_(fakes: FakeService, watch: Watch) -> None:
    resources = watch.over(fakes.resources)
    text = await key_of(fakes, "alice")
    caller = await KeyLookup(fakes.resources).caller(text)
    here = HERE.model_copy(update={"key_id": caller.key_id})
    more = {"webhook_url": "https://example.com/"}
    request = await _job(fakes, "alice", subscriber=Subscriber(reply_to=here, signed=True), **more)
    other = Subscriber(reply_to=ReplyTo(endpoint="https://here/ws", connection_id="other"), request_id=None)
    key = layout.subscriber(request.job_id, "other")
    await fakes.bucket.put(key, other.to_json(), JSON)
    await fakes.succeed(request)
    fakes.connections.gone.add("other")
    without_receiver = await _job(fakes, "alice")
    await fakes.succeed(without_receiver)
    said = {"FIRST_JOB_ID": request.job_id, "SECOND_JOB_ID": without_receiver.job_id}
    await notify.handle(resources, recorded("sqs_s3_created", **said), lookups=notify.Lookups.of(resources))
    assert {to for to, _ in fakes.connections.posted} == {CLIENT}
    await fakes.bucket.put(key, other.to_json(), JSON)
    fakes.connections.gone.clear()
    fakes.connections.unreachable.add("other")
    await notify.handle(resources, recorded("sqs_s3_created", **said), lookups=notify.Lookups.of(resources))
    assert len(fakes.events.bodies) == 1


class Refusing:
    """Receivers that accept nothing."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        raise WebhookRefused("no", is_final=True)


async def webhooks_(fakes: FakeService, watch: Watch) -> None:
    await webhook_receivers.make_secret(fakes.resources, "alice")
    request = await _job(fakes, "alice")
    await fakes.succeed(request)
    body = WebhookDelivery(job_id=request.job_id, url="https://example.com/").to_json().decode()
    record = {"messageId": "m", "receiptHandle": "r", "body": body, "attributes": {"ApproximateReceiveCount": "1"}}
    await webhooks.handle(watch.over(fakes.resources), {"Records": [record]}, Refusing())
    assert await jobs.webhook_error(fakes.resources, request.job_id) == "no"


async def dead_letters_(fakes: FakeService, watch: Watch) -> None:
    request = await _job(fakes, "alice")
    said = {"FIRST_JOB_ID": request.job_id, "SECOND_JOB_ID": fakes.resources.new_id()}
    await dead_letters.handle(watch.over(fakes.resources), recorded("sqs_dead_letters", **said))


async def sweep_(fakes: FakeService, watch: Watch) -> None:
    resources = watch.over(fakes.resources)
    its = await belongings(fakes, "alice")
    text = await key_of(fakes, "alice")
    async with client_of(fakes) as client:
        await client.get("/voices", headers=bearer(text))
        await client.post("/ws-tickets", headers=bearer(text))
        await client.post("/uploads", headers=bearer(text) | {"Idempotency-Key": "one"})
    await fakes.bucket.put(layout.connection("c"), b"{}", JSON)
    await _died_halfway(fakes, its.session_id)
    await voice_changes.delete(fakes.resources, "alice", its.voice_id)
    late = await _job(fakes, "alice")
    for minutes in (6, 15, 40, 24 * 60, 24 * 60):
        fakes.advance(minutes=minutes)
        await sweep.handle(resources, {})
    assert layout.request(late.job_id) not in fakes.bucket.objects


async def _died_halfway(fakes: FakeService, session_id: str) -> None:
    """Leave a voice half saved, and one saved whose embedding nobody asked for yet."""
    await fakes.bucket.delete([layout.session(session_id).embedding])
    for calls, name in ((7, "Half"), (12, "Whole")):
        fakes.fail_after(calls)
        with pytest.raises(BaseException, match="simulated failure"):
            await voice_changes.save(fakes.resources, "alice", session_id, name)
        fakes.recover()


async def worker(fakes: FakeService, watch: Watch) -> None:
    resources = watch.over(fakes.resources)
    its = await belongings(fakes, "alice")
    await fakes.bucket.delete([key for key in fakes.bucket.objects if its.job_id in key])
    keys = layout.voice_reference("alice", its.voice_id, its.session_id)
    await fakes.voices.delete([keys.embedding])
    saved: dict[str, Any] = {
        "voice_id": its.voice_id,
        "reference_id": its.session_id,
        "reference_folder": keys.folder,
    }
    done = [
        await _job(fakes, "alice", subscriber=Subscriber(reply_to=HERE, stream=True)),
        await _job(fakes, "alice", **saved),
        await _job(fakes, "alice", **saved, kind="embedding"),
    ]
    await fakes.bucket.put(layout.preview(done[0].job_id), encode_wav(reference_recording()), "audio/wav")
    unreadable = fakes.resources.new_id()
    await fakes.bucket.put(layout.request(unreadable), b"{}", JSON)
    await jobs.enqueue(fakes.resources, unreadable)
    await Health(resources, Dependencies(fakes.time), phase="ready").report()
    async with real_time_worker(resources, MockEngine()):
        await until(lambda: {layout.outcome(job.job_id) for job in done} <= set(fakes.bucket.objects))


WAYS: dict[str, Callable[[FakeService, Watch], Awaitable[None]]] = {
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


@pytest.fixture(params=WAYS)
async def gone(request: pytest.FixtureRequest) -> tuple[str, Watch]:
    """Every way through one entry point, and what was done on it."""
    watch = Watch()
    await WAYS[request.param](FakeService(SETTINGS), watch)
    return request.param, watch


def test_role_allows_exactly_used_actions(gone: tuple[str, Watch]) -> None:
    name, watch = gone
    permissions = {one for one in allowed(name) if one[0] not in BESIDES.get(name, set()) | OF_LAMBDA}
    refused = {deed for deed in watch.deeds if not any(deed.is_within(*one) for one in permissions)}
    done = watch.deeds | watch.absences
    idle = {one for one in permissions if not any(deed.is_within(*one) for deed in done)}
    assert (refused, idle) == (set(), set())


@pytest.mark.parametrize("name", ROLES)
def test_role_with_get_object_may_list(name: str) -> None:
    def buckets(action: str) -> set[str]:
        return {pattern.split("/")[0] for one, pattern in allowed(name) if one == action}

    assert buckets("s3:GetObject") <= buckets("s3:ListBucket")
