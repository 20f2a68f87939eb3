"""API keys and WebSocket tickets on the real server: access without a key, and after a key is revoked."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from functions.http.application import create_app, serve_with
from functions.local.server import local_app
from pipeline.access import api_keys
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Scope
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.http_server import override, run_server, run_simple_worker
from tests.support.speech import voice_wav


class OffsetClock:
    """A clock that runs ahead of the real time by `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> OffsetClock:
    return OffsetClock()


@pytest.fixture
async def url(resources: Resources, clock: OffsetClock) -> AsyncIterator[str]:
    async with run_server(local_app(override(resources.settings, auth="keys"), clock)) as url:
        yield url


async def key_of(resources: Resources, owner: str, *scopes: Scope) -> str:
    text, _ = await api_keys.make(
        resources, owner=owner, name="test", scopes=scopes or ("preview", "voices:write"), expires_at=None
    )
    return text


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def socket(url: str, *, key: str | None = None, ticket: str | None = None) -> connect:
    query = f"?ticket={ticket}" if ticket else ""
    return connect(url.replace("http", "ws") + "/ws" + query, additional_headers=bearer(key) if key else None)


async def ask(connection: ClientConnection, type_: str, **data: Any) -> dict[str, Any]:
    await connection.send(json.dumps({"type": type_, "data": data}))
    answer: dict[str, Any] = json.loads(await connection.recv())
    return answer


async def test_voice_lifecycle_with_key(url: str, resources: Resources) -> None:
    key = await key_of(resources, "alice")
    async with (
        run_simple_worker(resources),
        httpx.AsyncClient(base_url=url, headers=bearer(key)) as client,
        socket(url, key=key) as connection,
    ):
        made = await client.post("/preview", files={"audio": voice_wav(120.0)}, data={"response_text": "Hello."})
        assert made.status_code == 200, made.text
        assert made.headers["ratelimit"].startswith('"requests";r=')
        message = await ask(connection, "generate_preview", session_id=made.headers["x-session-id"], text="Again.")
        assert message["type"] == "tts_complete"
        assert (await client.get(message["data"]["audio_url"])).status_code == 200
        assert (await ask(connection, "save_voice", name="Nova"))["data"]["voice_id"] == "nova"
        assert (await client.get("/voices")).json()["voices"][0]["voice_id"] == "nova"
        other = bearer(await key_of(resources, "bob"))
        assert (await client.get(message["data"]["audio_url"], headers=other)).status_code == 404
        assert (await client.get("/voices", headers=other)).json() == {"voices": []}
    stored = [item.key async for item in resources.voices.list(layout.VOICES)]
    assert {"/".join(key.split("/")[:4]) for key in stored} == {"audio/voices/alice/nova"}
    assert [item.key async for item in resources.bucket.list(layout.IN_FLIGHT)] == []


async def test_socket_requires_credentials(url: str, resources: Resources) -> None:
    for shown in ({}, {"key": "vck_wrong"}, {"ticket": "wrong"}):
        with pytest.raises(InvalidStatus) as caught:
            async with socket(url, **shown):
                pass
        answer = caught.value.response
        assert answer.status_code == 401
        assert json.loads(answer.body)["code"] == "unauthorized"


async def test_ticket_opens_one_socket(url: str, resources: Resources) -> None:
    async with httpx.AsyncClient(base_url=url, headers=bearer(await key_of(resources, "alice"))) as client:
        ticket = (await client.post("/ws-tickets")).json()["ticket"]
    async with socket(url, ticket=ticket) as connection:
        assert (await ask(connection, "save_voice", name="Nova"))["data"]["field"] == "session_id"
        with pytest.raises(InvalidStatus):
            async with socket(url, ticket=ticket):
                pass


async def test_ticket_expires_after_one_minute(url: str, resources: Resources, clock: OffsetClock) -> None:
    async with httpx.AsyncClient(base_url=url, headers=bearer(await key_of(resources, "alice"))) as client:
        ticket = (await client.post("/ws-tickets")).json()["ticket"]
    clock.ahead += timedelta(seconds=60)
    with pytest.raises(InvalidStatus):
        async with socket(url, ticket=ticket):
            pass


async def test_revoked_key_closes_socket(url: str, resources: Resources, clock: OffsetClock) -> None:
    key, kept = await key_of(resources, "alice"), await key_of(resources, "alice")
    async with socket(url, key=key) as connection, socket(url, key=kept) as other:
        await api_keys.revoke(resources, key.split("_")[1])
        clock.ahead += timedelta(seconds=58)
        with pytest.raises(ConnectionClosed, match="no longer valid"):
            await connection.recv()
        assert (await ask(other, "save_voice", name="Nova"))["data"]["code"] == "invalid_input"
        with pytest.raises(InvalidStatus):
            async with socket(url, key=key):
                pass


async def test_owner_limits_return_429(resources: Resources) -> None:
    limits = override(resources.settings, auth="keys", requests_per_minute=5, previews_in_flight=2)
    async with (
        run_server(local_app(limits)) as url,
        httpx.AsyncClient(base_url=url, headers=bearer(await key_of(resources, "alice"))) as alice,
        httpx.AsyncClient(base_url=url, headers=bearer(await key_of(resources, "bob"))) as bob,
    ):
        wav = {"audio": voice_wav(120.0)}
        answers = [
            await alice.post(
                "/preview", files=wav, data={"response_text": "Hi."}, headers={"Prefer": "respond-async"}
            )
            for _ in range(3)
        ]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert answers[-1].json()["code"] == "too_many_requests"
        assert int(answers[-1].headers["retry-after"]) > 0
        # If a new minute begins during the loop, one of the two minutes still has more than five requests.
        assert 429 in [(await alice.get("/voices")).status_code for _ in range(10)]
        assert (await bob.get("/voices")).status_code == 200


FAKES = FakeService(Settings(auth="keys", preview_wait_seconds=0, requests_per_minute=0))


@pytest.fixture(
    params=[pytest.param(False, id="random values"), pytest.param(True, id="each limit", marks=pytest.mark.slow)]
)
def schema(request: pytest.FixtureRequest) -> BaseSchema:
    """The schema of a service that requires keys.  `test_openapi` tests each limit of the values too."""
    config = schemathesis.Config.discover()
    config.projects.default.phases.coverage.enabled = request.param
    api = create_app(FAKES.resources.settings)
    serve_with(api, FAKES.resources)
    return schemathesis.openapi.from_asgi("/openapi.json", api, config=config)


@pytest.fixture
def key() -> str:
    return asyncio.run(key_of(FAKES.resources, "alice", "admin"))


@schemathesis.pytest.from_fixture("schema").parametrize()
@hypothesis_settings(
    max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_openapi_authentication(case: "schemathesis.Case[Any]", key: str) -> None:
    """Requests are sent with the key, without one, and with a wrong one.  The document says where to expect 401."""
    FAKES.advance(minutes=1)  # otherwise the wrong key is throttled
    excluded: list[Any] = [positive_data_acceptance]
    if case.path == "/voices/import":  # a voice can have the id `import`, so other methods are allowed
        excluded.append(allow_header_conformance)
    case.call_and_validate(headers=bearer(key), excluded_checks=excluded)


async def test_job_events_require_owner_and_valid_key(url: str, resources: Resources, clock: OffsetClock) -> None:
    alice, bob = await key_of(resources, "alice"), await key_of(resources, "bob")
    async with httpx.AsyncClient(base_url=url) as client:
        sent = await client.post(
            "/preview",
            headers=bearer(alice) | {"Prefer": "respond-async"},
            files={"audio": ("a", voice_wav(120.0))},
            data={"response_text": "Hi."},
        )
        job_id = sent.json()["job_id"]
        path = f"/jobs/{job_id}/events"
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=bearer(bob))).status_code == 404
        async with asyncio.timeout(20), client.stream("GET", path, headers=bearer(alice)) as answer:
            lines = answer.aiter_lines()
            while await anext(lines) != "event: queued":
                pass
            await api_keys.revoke(resources, alice.split("_")[1])
            clock.ahead = timedelta(minutes=1)
            assert not any(line.startswith("event:") for line in [line async for line in lines])
