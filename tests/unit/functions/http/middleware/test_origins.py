"""Pages of other origins get what the settings let them have, and programs notice nothing of it."""

import json
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from functions.access.access_control import is_origin_allowed
from functions.http.application import create_app, serve_with
from functions.http.middleware.origins import METHODS, Cors, OriginCheck, is_loopback_name
from pipeline.settings import Settings
from tests.support.fake_service import FakeService

STUDIO, EVIL = "https://studio.example", "https://evil.example"
NAMED = Settings(cors_origins=f"{STUDIO}, http://localhost:3000")


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        (None, "api.example", True),
        (None, None, True),
        ("https://api.example", "api.example", True),
        ("http://localhost:8000", "LOCALHOST:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        (STUDIO, "api.example", True),
        (EVIL, "api.example", False),
        ("http://localhost:8001", "localhost:8000", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("https://studio.example.evil.example", "api.example", False),
        ("https://evilstudio.example", "api.example", False),
        ("null", "api.example", False),
        ("null", "null", False),
        ("", "", False),
        ("null", None, False),
        ("", None, False),
        ("https://", "", False),
        ("http://[", "api.example", False),
        ("app://obsidian.md", "obsidian.md", False),
        ("capacitor://localhost", "localhost", False),
    ],
)
def test_origin_is_allowed(origin: str | None, host: str | None, may: bool) -> None:
    assert is_origin_allowed(origin, host, [STUDIO]) is may


def client_of(settings: Settings, *, on_loopback: bool = False) -> httpx.AsyncClient:
    app = create_app(settings, on_loopback=on_loopback)
    fakes = FakeService(settings)
    serve_with(app, fakes.resources)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def preflight(origin: str, method: str = "POST", headers: str = "content-type") -> dict[str, Any]:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return {"method": "OPTIONS", "url": "/voices", "headers": {"Origin": origin, **asked}}


async def test_cors_off_by_default() -> None:
    async with client_of(Settings()) as client:
        asked = await client.request(**preflight(STUDIO))
        read = await client.get("/voices", headers={"Origin": STUDIO})
    assert (asked.status_code, read.status_code) == (405, 200)
    for answer in (asked, read):
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_preflight_allowed_origin() -> None:
    headers = "authorization,content-type,prefer,x-correlation-id,range,if-range,if-none-match"
    async with client_of(NAMED) as client:
        for method in METHODS:
            answer = await client.request(**preflight(STUDIO, method, headers))
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == STUDIO
            assert method in answer.headers["access-control-allow-methods"]
            assert "access-control-allow-credentials" not in answer.headers
            assert "Origin" in answer.headers["vary"]


async def test_preflight_allows_requested_headers() -> None:
    headers = "openai-organization, traceparent, x-requested-with, x-stainless-os, x-stainless-retry-count"
    async with client_of(NAMED) as client:
        response = await client.request(**preflight(STUDIO, headers=headers))
    assert response.status_code == 200
    assert response.headers["access-control-allow-headers"] == headers


async def test_preflight_other_origin() -> None:
    async with client_of(NAMED) as client:
        for asked in (
            preflight(EVIL),
            preflight("null"),
            preflight(STUDIO, "TRACE"),
        ):
            answer = await client.request(**asked)
            assert (answer.status_code, answer.json()["code"]) == (400, "cors_refused")
        assert "access-control-allow-origin" not in (await client.get("/voices", headers={"Origin": EVIL})).headers


async def test_cors_headers_on_errors() -> None:
    async with client_of(NAMED) as client:
        unknown = await client.get("/voices/nobody", headers={"Origin": STUDIO})
        too_large = await client.post("/voices", headers={"Origin": STUDIO, "Content-Length": "999999999"})
    for answer, status in ((unknown, 404), (too_large, 413)):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == STUDIO
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"X-Correlation-Id", "Retry-After", "RateLimit", "RateLimit-Policy"} <= set(exposed)


async def test_preflight_needs_no_key() -> None:
    async with client_of(Settings(auth="keys", cors_origins=STUDIO)) as client:
        asked = await client.request(**preflight(STUDIO, headers="authorization"))
        answer = await client.get("/voices", headers={"Origin": STUDIO})
    assert (asked.status_code, answer.status_code) == (200, 401)
    assert answer.headers["access-control-allow-origin"] == STUDIO
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]


def test_documented_headers_are_exposed() -> None:
    app = create_app(Settings(auth="keys", cors_origins=STUDIO))
    described = {
        name.lower()
        for path in app.openapi()["paths"].values()
        for operation in path.values()
        for answer in operation["responses"].values()
        for name in answer["headers"]
    }
    exposed = Cors(app, [STUDIO]).simple_headers["Access-Control-Expose-Headers"]
    # Browsers show these without being told.
    readable = {"cache-control", "last-modified", "accept-ranges"}
    assert described - readable <= {name.lower() for name in exposed.split(", ")}


async def test_documented_headers_are_allowed() -> None:
    app = create_app(Settings(cors_origins=STUDIO))
    described = {
        parameter["name"].lower()
        for path in app.openapi()["paths"].values()
        for operation in path.values()
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    # Browsers set it themselves.
    wanted = described - {"accept"}
    async with client_of(Settings(cors_origins=STUDIO)) as client:
        answer = await client.request(**preflight(STUDIO, headers=",".join(sorted(wanted))))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("auth", "foreign", "own"), [("none", 403, 422), ("keys", 401, 401)])
async def test_auth_none_refuses_foreign_forms(auth: str, foreign: int, own: int) -> None:
    async with client_of(Settings.model_validate({"auth": auth, "cors_origins": STUDIO})) as client:
        assert (await client.post("/preview", headers={"Origin": EVIL})).status_code == foreign
        for origin in ({}, {"Origin": STUDIO}, {"Origin": "http://test"}):
            assert (await client.post("/preview", headers=origin)).status_code == own


async def opening(origin: str | None) -> list[Message]:
    """Return the response to a handshake of a server whose application accepts every one."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def accept(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    headers = [(b"host", b"api.example:81"), *([(b"origin", origin.encode())] if origin else [])]
    scope = {"type": "websocket", "path": "/ws", "headers": headers, "extensions": {"websocket.http.response": {}}}
    await OriginCheck(accept, allowed=[STUDIO], checks_forms=False)(scope, receive, send)
    return sent


@pytest.mark.parametrize("origin", [None, STUDIO, "http://api.example:81"])
async def test_websocket_allowed_origin(origin: str | None) -> None:
    assert await opening(origin) == [{"type": "websocket.accept"}]


@pytest.mark.parametrize("origin", [EVIL, "null", "http://api.example", "file://"])
async def test_websocket_other_origin(origin: str) -> None:
    start, body = await opening(origin)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert json.loads(body["body"])["code"] == "origin_not_allowed"


MINE = [
    "localhost",
    "localhost:8000",
    "LocalHost",
    "a.localhost:1",
    "127.0.0.1",
    "127.1.2.3:80",
    "[::1]",
    "[::1]:80",
]
OTHERS = ["evil.example", "localhost.evil.example", "evillocalhost", "10.0.0.1:8000", "0.0.0.0", "[::]", "[::1", ""]


@pytest.mark.parametrize(("host", "mine"), [*((host, True) for host in MINE), *((host, False) for host in OTHERS)])
def test_is_loopback_name(host: str, mine: bool) -> None:
    assert is_loopback_name(host) is mine


@pytest.mark.parametrize(
    ("auth", "on_loopback", "host", "status"),
    [
        ("none", True, "localhost:8000", 200),
        ("none", True, "rebound.evil.example", 421),
        ("keys", True, "api.example", 200),
        ("none", False, "api.example", 200),
    ],
)
async def test_auth_none_refuses_other_hosts(auth: str, on_loopback: bool, host: str, status: int) -> None:
    async with client_of(Settings.model_validate({"auth": auth}), on_loopback=on_loopback) as client:
        answer = await client.get("/openapi.json", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert "localhost" in answer.json()["error"]
        assert "AUTH=keys" in answer.json()["error"]
