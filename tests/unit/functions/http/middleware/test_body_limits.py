"""Limits of request bodies: size, time, nesting, number of fields."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from functions.http.application import CONSENT_RECORDINGS, RECORDING_PATHS, body_limit, create_app, serve_with
from functions.http.middleware.body_limits import SLOWEST_BYTES_PER_SECOND, BodyLimit, BodyLimits
from pipeline.settings import FORM_BYTES, Settings
from tests.support.api import api
from tests.support.fake_service import FakeService


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def post(
    content: bytes | AsyncIterator[bytes], silence_seconds: float = 5, path: str = "/small"
) -> httpx.Response:
    app = BodyLimits(
        echo, limit=lambda path, _: BodyLimit(100 if path == "/small" else 100_000), silence_seconds=silence_seconds
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.post(path, content=content)


async def in_parts(parts: Iterable[bytes], *, pause: float = 0) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(pause)


async def test_body_within_limit() -> None:
    assert (await post(b"x" * 100_000, path="/large")).text == "100000"
    assert (await post(in_parts([b"x" * 50] * 2))).text == "100"


async def test_chunked_body_over_limit() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 60
            yield b"x" * 60

    response = await post(endless())
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert read <= 180


async def test_body_pause_too_long() -> None:
    response = await post(in_parts([b"x"], pause=60), silence_seconds=0.02)
    assert (response.status_code, response.json()["code"]) == (408, "request_timeout")
    assert response.headers["connection"] == "close"


async def test_body_rate_too_low() -> None:
    response = await post(in_parts([b"x"] * 99, pause=0.01), silence_seconds=0.1)
    assert response.status_code == 408


async def test_body_slow_but_steady() -> None:
    response = await post(
        in_parts([b"x" * SLOWEST_BYTES_PER_SECOND] * 5, pause=0.05), silence_seconds=0.15, path="/large"
    )
    assert response.status_code == 200


async def test_slow_response_has_no_timeout() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        disconnect = asyncio.ensure_future(receive())
        await asyncio.wait([disconnect], timeout=0.1)
        disconnect.cancel()
        await PlainTextResponse("done")(scope, receive, send)

    app = BodyLimits(slow, limit=lambda *_: BodyLimit(100), silence_seconds=0.02)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.post("/", content=b"x")).text == "done"


async def test_error_replaces_response_of_route() -> None:
    async def ignores_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == (await receive())["type"] == "http.disconnect"
        await PlainTextResponse("partial", 400)(scope, receive, send)

    app = BodyLimits(ignores_disconnect, limit=lambda *_: BodyLimit(1), silence_seconds=5)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.post("/", content=in_parts([b"xx"]))).status_code == 413


def test_large_bodies_only_for_recordings() -> None:
    settings = Settings(reference_max_megabytes=3)
    description = create_app(settings).openapi()
    schemas = description["components"]["schemas"]
    forms = {
        path: schemas[content["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]]
        for path, methods in description["paths"].items()
        if (content := methods.get("post", {}).get("requestBody", {}).get("content", {})).get("multipart/form-data")
    }
    recordings = {"audio", "audio_sample", "recording", "bundle"}
    taking = {path for path, form in forms.items() if recordings & form["properties"].keys()}
    assert taking == RECORDING_PATHS | {f"{CONSENT_RECORDINGS}{{consent_id}}/recording"}
    for path in description["paths"]:
        large, small = 3 * 1024 * 1024 + FORM_BYTES, 112 * 1024
        is_large = path in taking
        for content_type in (PARTS, JSON, FORM, "", "text/plain"):
            limit = body_limit(path, content_type, settings)
            expected = large if is_large and content_type == PARTS else small
            assert (limit.other_bytes or limit.max_bytes) == expected


async def test_large_ref_audio_only() -> None:
    """Everything in a speech request but the recording has the limit of a small body."""
    read = 0

    async def parts(part: bytes) -> AsyncIterator[bytes]:
        nonlocal read
        yield b'{"model": "tts-1", "input": '
        for _ in range(200):
            read += 1
            yield part

    async with api(FakeService()) as client:
        for part in (b"[" * 10_000, b'"a",' * 2500, b'"' + b"a" * 10_000, b'\n "ref_audio":"",' * 600):
            read = 0
            response = await client.post("/v1/audio/speech", content=parts(part), headers={"content-type": JSON})
            assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
            assert "besides the value of ref_audio" in response.json()["error"]["message"]
            assert read < 15


@pytest.mark.parametrize("headers", [{"content-length": "999999999"}, {"content-encoding": "gzip"}])
async def test_unknown_route_precedes_body_errors(headers: dict[str, str]) -> None:
    async with api(FakeService()) as client:
        assert (await client.post("/nothing", content=b"x", headers=headers)).status_code == 404
        assert (await client.put("/voices", content=b"x", headers=headers)).status_code == 405


@pytest.mark.parametrize("path", ["/preview", "/voices", "/v1/audio/speech"])
async def test_content_encoding_returns_415(path: str) -> None:
    async with api(FakeService()) as client:
        headers = {"content-encoding": "gzip", "content-type": JSON}
        response = await client.post(path, content=gzip.compress(b"{}"), headers=headers)
        assert response.status_code == 415
        assert "Content-Encoding 'gzip'" in response.text
        identity = await client.post(path, content=b"{}", headers=headers | {"content-encoding": "identity"})
        assert identity.status_code in {400, 422}


@pytest.mark.parametrize("name", ["text_max_chars", "transcription_max_chars"])
def test_longest_text_fits_when_escaped(name: str) -> None:
    settings = Settings.model_validate({name: 1_000_000})
    assert body_limit("/voices", JSON, settings).max_bytes > len(r"\ud83d\ude00") * 1_000_000


JSON, FORM, PARTS = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="transcription"%b\r\n\r\n%b\r\n'


@pytest.mark.parametrize(
    ("path", "content_type", "content"),
    [
        ("/voices", JSON, b"[" * 50_000),
        ("/voices", JSON, b'{"a":' * 10_000),
        ("/voices", JSON, b'{"session_id": ' + b"9" * 5_000 + b"}"),
        ("/voices", "text/plain", b'{"session_id": "x", "name": "Nova"}'),
        ("/preview", FORM, b"a=1&" * 2_000),
        ("/preview", PARTS, PART % (b"", b"x") * 1_001 + b"--b--\r\n"),
        ("/preview", PARTS, PART % (b'; filename="a"', b"x") * 1_001 + b"--b--\r\n"),
        ("/preview", PARTS, PART % (b"", b"x" * 1_100_000) + b"--b--\r\n"),
        ("/preview", PARTS, b"--b\r\n" + b"X: y\r\n" * 20_000),
        ("/preview", PARTS, b"--b\r\n" + b"X" * 200_000),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_expensive_bodies_are_rejected(path: str, content_type: str, content: bytes) -> None:
    fakes = FakeService()
    app = create_app(fakes.resources.settings)
    serve_with(app, fakes.resources)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        response = await client.post(path, content=content, headers={"content-type": content_type})
    assert response.status_code in {400, 422}
    assert response.json()["error"]
    assert fakes.keys() == []
