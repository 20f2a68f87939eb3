"""Who may do what: every route and every message, asked by everyone who may not."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from functions.access.access_control import AccessControl
from functions.http.application import create_app, serve_with
from functions.http.openai.retries import RETRY_COUNT, fingerprint_of
from functions.http.routing.authorized_route import AuthorizedRoute
from functions.local.websocket_route import router as socket_router
from functions.previews.fair_turns import FairTurns
from functions.websocket.client_messages import CLIENT_MESSAGES
from functions.websocket.dispatch import Dispatcher
from pipeline.access import api_keys, idempotency, ws_tickets
from pipeline.access.api_keys import Caller
from pipeline.access.owners import new_id, owns
from pipeline.audio.reference_audio import encode_wav, encoded
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import ReplyTo, Request, Scope, Source
from pipeline.contract.revocations import Certificate
from pipeline.domain import acceptance, sessions, voice_changes, voices
from pipeline.domain.consents import recorded
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.ids import id_maker
from pipeline.settings import Settings
from tests.support.bundles import foreign_bundle
from tests.support.fake_service import PROMPT, FakeService, reference_recording

SETTINGS = Settings(auth="keys", verifications_per_minute=0)  # every route needs a key
UNCOUNTED = Settings(auth="keys", requests_per_minute=0)  # what is counted costs now more, now less
ASYNC = {"Prefer": "respond-async"}
WAV = encode_wav(reference_recording())

PUBLIC = {
    ("GET", "/health"),
    ("GET", "/docs"),
    ("GET", "/v1/test"),
    ("GET", "/signing-key"),
    ("GET", "/consents/{consent_id}/receipt"),
    ("GET", "/consents/{consent_id}/revocation"),
    ("POST", "/consents/{consent_id}/revocation"),
}


@dataclass(frozen=True)
class Belongings:
    """What one owner has, or ids that nobody has."""

    session_id: str
    job_id: str
    voice_id: str
    consent_id: str
    revocation_id: str

    @property
    def speech(self) -> dict[str, Any]:
        """A request for speech whose job is that."""
        return {"model": "tts-1", "voice": self.voice_id, "input": "Hello."}


@dataclass(frozen=True)
class Call:
    """How to call a route with somebody's ids; `names` are those of the ids that it takes."""

    method: str
    path: str
    scope: Scope
    names: tuple[str, ...] = ()
    more: Callable[[Belongings], dict[str, Any]] = field(default=lambda _: {})

    def of(self, theirs: Belongings) -> tuple[str, str, dict[str, Any]]:
        return self.method, self.path.format(**theirs.__dict__, extension="pcm", model="tts-1"), self.more(theirs)


CALLS = [
    Call(
        "POST",
        "/preview",
        "preview",
        ("session_id",),
        lambda its: {"data": {"session_id": its.session_id, "response_text": "Hello."}, "headers": ASYNC},
    ),
    Call(
        "POST",
        "/preview-from-voice",
        "preview",
        ("voice_id",),
        lambda its: {"data": {"voice_id": its.voice_id, "response_text": "Hello."}, "headers": ASYNC},
    ),
    Call("GET", "/previews/{job_id}.wav", "preview", ("job_id",)),
    Call("GET", "/previews/{job_id}.{extension}", "preview", ("job_id",)),
    Call("HEAD", "/previews/{job_id}.wav", "preview", ("job_id",)),
    Call("GET", "/jobs/{job_id}", "preview", ("job_id",)),
    Call("DELETE", "/jobs/{job_id}", "preview", ("job_id",)),
    Call("GET", "/jobs/{job_id}/events", "preview", ("job_id",)),
    Call("GET", "/voices", "preview"),
    Call(
        "POST",
        "/voices",
        "voices:write",
        ("session_id",),
        lambda its: {"json": {"session_id": its.session_id, "name": "Another"}},
    ),
    Call("GET", "/voices/{voice_id}", "preview", ("voice_id",)),
    Call("GET", "/voices/{voice_id}/sample", "preview", ("voice_id",)),
    Call("GET", "/voices/{voice_id}/export", "preview", ("voice_id",)),
    Call("PATCH", "/voices/{voice_id}", "voices:write", ("voice_id",), lambda _: {"json": {"description": "calm"}}),
    Call("DELETE", "/voices/{voice_id}", "voices:write", ("voice_id",)),
    Call("POST", "/voices/import", "voices:write", (), lambda _: {"files": {"bundle": foreign_bundle()}}),
    Call("GET", "/revocations/{revocation_id}", "voices:write", ("revocation_id",)),
    Call(
        "PUT",
        "/voices/{voice_id}/consent",
        "voices:write",
        ("voice_id", "consent_id"),
        lambda its: {"json": {"consent_id": its.consent_id}},
    ),
    Call(
        "POST",
        "/consents",
        "voices:write",
        ("session_id",),
        lambda its: {
            "json": {"session_id": its.session_id, "person": "Ann", "purposes": ["books"], "language": "en"}
        },
    ),
    Call("GET", "/consents", "voices:write"),
    Call("GET", "/consents/{consent_id}", "voices:write", ("consent_id",)),
    Call(
        "POST",
        "/consents/{consent_id}/recording",
        "voices:write",
        ("consent_id",),
        lambda _: {"files": {"recording": WAV}, "headers": ASYNC},
    ),
    Call("GET", "/consents/{consent_id}/recording", "voices:write", ("consent_id",)),
    Call("POST", "/consents/{consent_id}/review", "admin", (), lambda _: {"json": {"decision": "accepted"}}),
    Call("POST", "/uploads", "preview"),
    Call("POST", "/upload", "preview", (), lambda _: {"files": {"audio": WAV}}),
    Call("POST", "/verify", "preview", (), lambda _: {"files": {"audio": WAV}}),
    Call("GET", "/audit", "preview"),
    Call("GET", "/disclaimer", "preview"),
    Call("PUT", "/disclaimer", "voices:write", (), lambda _: {"json": {"spoken": True}}),
    Call("POST", "/references/check", "preview", (), lambda _: {"files": {"audio": WAV}, "headers": ASYNC}),
    Call("POST", "/ws-tickets", "preview"),
    Call("GET", "/v1/models", "preview"),
    Call("GET", "/v1/models/{model}", "preview"),
    Call("GET", "/v1/audio/models", "preview"),
    Call(
        "POST",
        "/v1/audio/speech",
        "preview",
        ("voice_id",),
        lambda its: {"json": its.speech, "headers": {RETRY_COUNT: "1"}},
    ),
    Call("GET", "/v1/audio/voices", "preview"),
    Call("GET", "/v1/audio/voices/{voice_id}", "preview", ("voice_id",)),
    Call("DELETE", "/v1/audio/voices/{voice_id}", "voices:write", ("voice_id",)),
    Call(
        "POST",
        "/v1/audio/voices",
        "voices:write",
        ("consent_id",),
        lambda its: {"data": {"name": "Another", "consent": its.consent_id}, "files": {"audio_sample": WAV}},
    ),
    Call(
        "POST",
        "/v1/audio/voice_consents",
        "voices:write",
        (),
        lambda _: {"data": {"name": "Mine", "language": "en"}, "files": {"recording": WAV}},
    ),
    Call("GET", "/v1/audio/voice_consents", "voices:write"),
    Call("GET", "/v1/audio/voice_consents/{consent_id}", "voices:write", ("consent_id",)),
    Call(
        "POST",
        "/v1/audio/voice_consents/{consent_id}",
        "voices:write",
        ("consent_id",),
        lambda _: {"json": {"name": "Mine"}},
    ),
    Call("DELETE", "/v1/audio/voice_consents/{consent_id}", "voices:write", ("consent_id",)),
    Call("GET", "/status", "admin"),
    Call("GET", "/metrics", "admin"),
]

MESSAGES: dict[str, Callable[[Belongings], list[dict[str, Any]]]] = {
    "generate_preview": lambda its: [
        {"session_id": its.session_id, "text": "Hello."},
        {"voice_id": its.voice_id, "text": "Hello."},
    ],
    "save_voice": lambda its: [{"session_id": its.session_id, "name": "Another"}],
    "subscribe": lambda its: [{"job_id": its.job_id}],
    "cancel": lambda its: [{"job_id": its.job_id}],
}


@cache
def app() -> FastAPI:
    return create_app(SETTINGS)


def client_of(fakes: FakeService) -> httpx.AsyncClient:
    serve_with(app(), fakes.resources)
    transport = httpx.ASGITransport(app(), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def key_of(fakes: FakeService, owner: str, *scopes: Scope, days: float | None = None) -> str:
    expires_at = fakes.time() + timedelta(days=days) if days else None
    text, _ = await api_keys.make(
        fakes.resources,
        owner=owner,
        name="test",
        scopes=scopes or ("preview", "voices:write"),
        expires_at=expires_at,
    )
    return text


async def belongings(fakes: FakeService, owner: str) -> Belongings:
    """Create a session, an ended job and a voice of an owner."""
    resources = fakes.resources
    session_id = new_id(resources.new_id, owner)
    await sessions.store(resources, owner, session_id, encoded(reference_recording()), "What I say.")
    await fakes.bucket.put(layout.session(session_id).embedding, PROMPT, JSON)
    voice = await voice_changes.save(resources, owner, session_id, f"Voice of {owner}")
    request = Request(
        job_id=new_id(resources.new_id, owner),
        kind="preview",
        source=Source(session_id=session_id, owner=owner),
        reference_id=session_id,
        text="Hello.",
        created_at=fakes.time(),
    )
    await acceptance.accept(resources, request)
    await fakes.succeed(request)
    await fakes.bucket.put(layout.preview(request.job_id), encoded(reference_recording()).wav, "audio/wav")
    await fakes.bucket.put(layout.fingerprint(owner, request.job_id) + "000-AAAAAA==", b"", "text/plain")
    consent = await recorded.create(resources, owner, "Mine", "en", "I agree.", encoded(reference_recording()))
    revoked = Certificate(
        revocation_id=new_id(resources.new_id, owner),
        voice_id="old",
        reference_id=resources.new_id(),
        reason="deleted",
        requested_at=fakes.time(),
        folders=(),
    )
    await fakes.voices.put(layout.revocation(revoked.revocation_id), revoked.to_json(), JSON)
    its = Belongings(session_id, request.job_id, voice.voice_id, consent.consent_id, revoked.revocation_id)
    speech = fingerprint_of(httpx.Request("POST", "http://test", json=its.speech).content)
    await idempotency.remember_job(resources, owner, speech, request.job_id)
    return its


def nobodys(fakes: FakeService) -> Belongings:
    """Return ids of the right format that do not exist."""
    new_id = fakes.resources.new_id
    return Belongings(new_id(), new_id(), "voice-of-nil", new_id(), new_id())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def call(client: httpx.AsyncClient, what: Call, theirs: Belongings, key: str | None) -> httpx.Response:
    method, path, more = what.of(theirs)
    headers = more.pop("headers", {}) | ({} if key is None else bearer(key))
    return await client.request(method, path, headers=headers, **more)


def every_route() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, operations in app().openapi()["paths"].items()
        for method, operation in operations.items()
    ]


# Routes


def test_route_table_is_complete() -> None:
    """A new route has to be added here, and so be tried by everyone who may not use it."""
    described = {(method, path) for method, path, _ in every_route()}
    assert {(what.method, what.path) for what in CALLS} == described - PUBLIC


def test_route_without_scope_is_rejected() -> None:
    router = APIRouter(route_class=AuthorizedRoute)
    with pytest.raises(TypeError, match="declares no scope"):
        router.get("/forgotten")(lambda: None)


def test_openapi_contains_scopes() -> None:
    told = {(method, path): operation.get("security") for method, path, operation in every_route()}
    for what in CALLS:
        optional: list[dict[str, list[str]]] = (
            [{}] if what.path == "/verify" else []
        )  # `VERIFICATIONS_PER_MINUTE` without a key
        assert told[what.method, what.path] == [{"key": [what.scope]}, *optional]
    assert told["GET", "/health"] == []


@pytest.mark.parametrize("what", CALLS, ids=lambda what: f"{what.method} {what.path}")
class TestRoutes:
    async def test_route_with_key(self, what: Call) -> None:
        fakes = FakeService(SETTINGS)
        mine = await belongings(fakes, "alice")
        async with client_of(fakes) as client:
            answer = await call(client, what, mine, await key_of(fakes, "alice", what.scope))
        assert answer.is_success, answer.text
        assert answer.headers["ratelimit"]
        assert answer.headers["ratelimit-policy"]

    async def test_route_with_admin_key(self, what: Call) -> None:
        fakes = FakeService(SETTINGS)
        mine = await belongings(fakes, "alice")
        async with client_of(fakes) as client:
            answer = await call(client, what, mine, await key_of(fakes, "alice", "admin"))
        assert answer.is_success, answer.text

    async def test_route_without_key_returns_401(self, what: Call) -> None:
        fakes = FakeService(SETTINGS)
        mine = await belongings(fakes, "alice")
        async with client_of(fakes) as client:
            answer = await call(client, what, mine, None)
        turned_away(what, answer)

    async def test_route_with_bad_key_returns_401(self, what: Call) -> None:
        fakes = FakeService(SETTINGS)
        mine = await belongings(fakes, "alice")
        elsewhere = await key_of(FakeService(SETTINGS), "alice")
        revoked = await key_of(fakes, "alice")
        await api_keys.revoke(fakes.resources, key_id(revoked))
        expired = await key_of(fakes, "alice", days=1)
        fakes.advance(days=1)
        good = await key_of(fakes, "alice")
        mistyped = good[:-1] + ("a" if good[-1] != "a" else "b")
        before = dict(fakes.bucket.objects), dict(fakes.voices.objects)
        async with client_of(fakes) as client:
            for key in ("", "nonsense", mistyped, elsewhere, revoked, expired):
                turned_away(what, await call(client, what, mine, key))
        assert (dict(fakes.bucket.objects), dict(fakes.voices.objects)) == before

    async def test_route_with_other_scope_returns_403(self, what: Call) -> None:
        fakes = FakeService(SETTINGS)
        mine = await belongings(fakes, "alice")
        other: Scope = "preview" if what.scope == "voices:write" else "voices:write"
        async with client_of(fakes) as client:
            answer = await call(client, what, mine, await key_of(fakes, "alice", other))
        assert answer.status_code == 403
        assert "insufficient_scope" in answer.headers["www-authenticate"]
        if what.method != "HEAD":
            assert error_of(answer)["code"] == "forbidden"
            assert f"`{what.scope}`" in error_of(answer)["message"]

    async def test_resource_of_other_owner_is_404(self, what: Call) -> None:
        fakes = FakeService(UNCOUNTED)
        theirs, unknown = await belongings(fakes, "bob"), nobodys(fakes)
        key = await key_of(fakes, "alice")
        async with client_of(fakes) as client:
            await call(client, what, unknown, key)  # what a first call costs more is paid
            costs = [await seen(fakes, call(client, what, ids, key), ids) for ids in (theirs, unknown)]
        assert costs[0] == costs[1]
        if what.names:
            assert costs[0][0] in {404, 410}


async def seen(fakes: FakeService, calling: Any, ids: Belongings) -> tuple[int, str, dict[str, str], list[str]]:
    """Return what a caller can observe: status, body and headers without the ids, and the calls made."""
    fakes.bucket.switch.calls.clear()
    fakes.voices.switch.calls.clear()
    answer = await calling
    told = answer.text
    for id_ in ids.__dict__.values():
        told = told.replace(id_, "ID")
    varying = {
        "x-correlation-id",
        "x-request-id",
        "x-job-id",
        "x-session-id",
        "location",
        "content-location",
        "ratelimit",
    }
    headers = {name: value for name, value in answer.headers.items() if name not in varying}
    if answer.is_success:
        told, headers = "", {}
    return answer.status_code, told, headers, [*fakes.bucket.switch.calls, *fakes.voices.switch.calls]


def turned_away(what: Call, answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    if what.method != "HEAD":
        assert error_of(answer)["code"] == "unauthorized"


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return an error's code and message, of a problem or in OpenAI's form."""
    body: dict[str, Any] = answer.json()
    return body["error"] if isinstance(body["error"], dict) else body | {"message": body["detail"]}


@pytest.mark.parametrize("authorization", [None, "", "Basic YTpi", "vck_abc"])
async def test_missing_key_challenge(authorization: str | None) -> None:
    fakes = FakeService(SETTINGS)
    async with client_of(fakes) as client:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = await client.get("/voices", headers=headers)
    assert answer.status_code == 401
    # RFC 6750, section 3.1: no error code for whoever sent no credentials.
    assert answer.headers["www-authenticate"] == 'Bearer realm="voice cloning"'
    assert "Authorization: Bearer" in answer.json()["error"]


async def test_invalid_key_challenge() -> None:
    async with client_of(FakeService(SETTINGS)) as client:
        answer = await client.get("/voices", headers=bearer("vck_abc"))
    assert answer.headers["www-authenticate"] == 'Bearer realm="voice cloning", error="invalid_token"'


def key_id(key: str) -> str:
    return key.split("_")[1]


@pytest.mark.parametrize(("method", "path"), sorted(PUBLIC))
async def test_public_routes_need_no_key(method: str, path: str) -> None:
    async with client_of(FakeService(SETTINGS)) as client:
        assert (await client.request(method, path)).status_code == (422 if "{consent_id}" in path else 200)


async def test_key_is_checked_before_body() -> None:
    async def endless() -> Any:
        yield b"x" * 1000
        raise AssertionError("it was read")

    fakes = FakeService(SETTINGS)
    async with client_of(fakes) as client:
        answer = await client.post(
            "/preview", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
    assert answer.status_code == 401


# Messages


HERE = ReplyTo(endpoint="http://127.0.0.1:9", connection_id="c1=")


async def caller_of(fakes: FakeService, owner: str, *scopes: Scope, days: float | None = None) -> Caller:
    return await AccessControl(fakes.resources).authenticate_key(
        f"Bearer {await key_of(fakes, owner, *scopes, days=days)}", "127.0.0.1"
    )


async def unheard(message: dict[str, Any]) -> None:
    raise AssertionError(message)


async def ask(
    fakes: FakeService,
    caller: Caller,
    type_: str,
    data: dict[str, Any],
    access_control: AccessControl | None = None,
) -> dict[str, Any]:
    dispatcher = Dispatcher(fakes.resources, access_control or AccessControl(fakes.resources), FairTurns(slots=1))
    answer = await dispatcher.handle(HERE, caller, json.dumps({"type": type_, "data": data}), unheard)
    return answer or {"type": "accepted", "data": {}}


def every_message(its: Belongings, *types: str) -> Iterable[tuple[str, dict[str, Any]]]:
    for type_ in types or MESSAGES:
        yield from ((type_, data) for data in MESSAGES[type_](its))


def test_message_table_is_complete() -> None:
    assert MESSAGES.keys() == CLIENT_MESSAGES.keys()


async def test_message_with_key() -> None:
    fakes = FakeService(SETTINGS)
    mine, caller = await belongings(fakes, "alice"), await caller_of(fakes, "alice")
    for type_, data in every_message(mine):
        assert (await ask(fakes, caller, type_, data))["type"] != "error"


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_revoked_key_closes_connection(end: str) -> None:
    fakes = FakeService(SETTINGS)
    mine, access_control = await belongings(fakes, "alice"), AccessControl(fakes.resources)
    caller = await access_control.authenticate_key(f"Bearer {await key_of(fakes, 'alice', days=1)}", "127.0.0.1")
    assert caller.key_id
    if end == "revoked":
        await api_keys.revoke(fakes.resources, caller.key_id)
        fakes.advance(seconds=59)
    else:
        fakes.advance(days=1)
    assert not await access_control.is_key_still_valid(caller)
    for type_, data in every_message(mine):
        answer = await ask(fakes, caller, type_, data, access_control)
        assert (answer["type"], answer["data"]["code"]) == ("error", "unauthorized")


async def test_message_with_other_scope_fails() -> None:
    fakes = FakeService(SETTINGS)
    mine = await belongings(fakes, "alice")
    for type_, data in every_message(mine):
        other: Scope = "voices:write" if CLIENT_MESSAGES[type_].scope == "preview" else "preview"
        answer = await ask(fakes, await caller_of(fakes, "alice", other), type_, data)
        assert (answer["type"], answer["data"]["code"]) == ("error", "forbidden")


async def test_message_about_other_owner_fails() -> None:
    fakes = FakeService(UNCOUNTED)
    theirs, unknown = await belongings(fakes, "bob"), nobodys(fakes)
    caller, access_control = await caller_of(fakes, "alice"), AccessControl(fakes.resources)
    await access_control.is_key_still_valid(caller)
    for (type_, data), (_, other) in zip(every_message(theirs), every_message(unknown), strict=True):
        answers = [await heard(fakes, access_control, caller, type_, message) for message in (other, data)]
        assert answers[0] == answers[1]
        assert "error" in answers[0][0]


async def heard(
    fakes: FakeService, access_control: AccessControl, caller: Caller, type_: str, data: dict[str, Any]
) -> tuple[str, list[str]]:
    fakes.bucket.switch.calls.clear()
    fakes.voices.switch.calls.clear()
    told = json.dumps(await ask(fakes, caller, type_, data, access_control))
    for id_ in data.values():
        told = told.replace(id_, "ID")
    return told, [*fakes.bucket.switch.calls, *fakes.voices.switch.calls]


# Owners


async def test_owners_can_use_same_voice_name() -> None:
    fakes = FakeService(SETTINGS)
    async with client_of(fakes) as client:
        for owner in ("alice", "bob"):
            session_id = (await belongings(fakes, owner)).session_id
            await voice_changes.save(fakes.resources, owner, session_id, "Nova", f"{owner}'s")
        for owner in ("alice", "bob"):
            key = bearer(await key_of(fakes, owner))
            assert (await client.get("/voices/nova", headers=key)).json()["description"] == f"{owner}'s"
            listed = (await client.get("/voices", headers=key)).json()["voices"]
            assert [voice["voice_id"] for voice in listed] == ["nova", f"voice-of-{owner}"]
        await client.delete("/voices/nova", headers=bearer(await key_of(fakes, "bob")))
        assert (await client.get("/voices/nova", headers=bearer(await key_of(fakes, "alice")))).is_success
    assert {key.split("/")[2] for key in fakes.voice_keys(layout.VOICES)} == {"alice", "bob"}


async def test_created_objects_name_their_owner() -> None:
    fakes = FakeService(SETTINGS)
    async with client_of(fakes) as client:
        headers = bearer(await key_of(fakes, "alice")) | ASYNC
        answer = await client.post(
            "/preview", files={"audio": WAV}, data={"response_text": "Hello."}, headers=headers
        )
    assert answer.status_code == 202
    for name in ("x-job-id", "x-session-id"):
        assert owns("alice", answer.headers[name])
        assert not owns("bob", answer.headers[name])
    assert fakes.synthesis.groups[-1] == "alice"


async def test_voice_named_like_owner_is_separate() -> None:
    fakes = FakeService()
    mine = await belongings(fakes, "alice")
    session_id = await fakes.session()
    await voice_changes.save(fakes.resources, None, session_id, "Alice")
    await revoke_voice(fakes.resources, None, "alice", "deleted")
    assert (await voices.get(fakes.resources, "alice", mine.voice_id)).voice_id == mine.voice_id


# Tickets and addresses


async def test_ws_ticket_opens_one_connection() -> None:
    fakes = FakeService(SETTINGS)
    access_control = AccessControl(fakes.resources)
    async with client_of(fakes) as client:
        answer = await client.post("/ws-tickets", headers=bearer(await key_of(fakes, "alice")))
    assert answer.status_code == 201
    ticket = answer.json()["ticket"]
    assert (await access_control.authenticate_ticket(ticket, "a")).owner == "alice"
    with pytest.raises(Exception, match="ticket"):
        await access_control.authenticate_ticket(ticket, "a")


async def test_ws_ticket_of_revoked_key_fails() -> None:
    fakes = FakeService(SETTINGS)
    caller = await caller_of(fakes, "alice")
    ticket, _ = await ws_tickets.issue(fakes.resources, caller)
    assert caller.key_id
    await api_keys.revoke(fakes.resources, caller.key_id)
    with pytest.raises(Exception, match="no longer valid"):
        await AccessControl(fakes.resources).authenticate_ticket(ticket, "a")


async def test_auth_none_needs_no_key() -> None:
    fakes = FakeService(Settings())
    app_without = create_app(fakes.resources.settings)
    serve_with(app_without, fakes.resources)
    transport = httpx.ASGITransport(app_without)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/voices")).is_success
        assert (await client.get("/voices", headers=bearer("whatever"))).is_success
        assert (await client.post("/ws-tickets")).is_success
        description = (await client.get("/openapi.json")).json()
    assert "securitySchemes" not in description["components"]
    assert not any("security" in operation for path in description["paths"].values() for operation in path.values())


def test_only_websocket_has_no_scope() -> None:
    routes = [(type(route), route.path) for route in socket_router.routes]  # type: ignore[attr-defined]
    assert routes == [(APIWebSocketRoute, "/ws"), (APIRoute, "/ws"), (APIWebSocketRoute, "/{path:path}")]


def test_unknown_id_belongs_to_nobody() -> None:
    assert not owns("alice", id_maker(FakeService().time)())
