"""The routes under `/v1`: errors, lookup of voices, and consents."""

import sys
from typing import Any

import httpx
import pytest

from functions.http.openai.voice_lookup import find_voice
from pipeline.access import api_keys
from pipeline.domain import voice_changes, voice_renaming
from pipeline.errors import NotFound, Unavailable
from pipeline.settings import Settings
from tests.support.api import api
from tests.support.fake_service import FakeService
from tests.support.speech import voice_wav

SPEECH = {"model": "tts-1", "voice": "nova", "input": "Hello."}


def assert_error(response: httpx.Response, status: int, type_: str, code: str, param: str | None = None) -> None:
    """Assert that a response is an error in OpenAI's format."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"] == response.headers["x-correlation-id"]
    (body,) = response.json().values()
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["message"]
    assert (body["type"], body["param"], body["code"]) == (type_, param, code)
    assert response.headers.get("x-should-retry") == ("false" if status in {409, 422} else None)


async def service_with_voices(*names: str, settings: Settings | None = None) -> FakeService:
    fakes = FakeService(settings or Settings())
    for name in names:
        await voice_changes.save(fakes.resources, None, await fakes.session(), name)
    return fakes


JSON = {"content-type": "application/json"}
INVALID = (422, "invalid_request_error", "invalid_input")
UNKNOWN = (404, "not_found_error", "not_found")


@pytest.mark.parametrize(
    ("method", "path", "content", "expected"),
    [
        ("POST", "/v1/chat/completions", {"json": {}}, UNKNOWN),
        ("GET", "/v1", {}, UNKNOWN),
        ("GET", "/v1/audio/speech", {}, (405, "invalid_request_error", "method_not_allowed")),
        (
            "POST",
            "/v1/audio/speech",
            {"content": b"{", "headers": JSON},
            (400, "invalid_request_error", "bad_request"),
        ),
        (
            "POST",
            "/v1/audio/voices",
            {"content": b"", "headers": {"content-length": "999999999"}},
            (413, "invalid_request_error", "too_large"),
        ),
        *(
            ("POST", "/v1/audio/speech", {"json": SPEECH | changes}, (*expected, param))
            for changes, expected, param in (
                ({"voice": "nobody"}, UNKNOWN, "voice"),
                ({"model": "whisper-1"}, UNKNOWN, "model"),
                ({"speed": 9}, INVALID, "speed"),
                ({"speed": "NaN"}, INVALID, "speed"),
                ({"ref_audio": "AAAA"}, INVALID, "voice"),
                ({"language": "Klingon"}, INVALID, "language"),
                ({"input": "a" * 4097}, INVALID, "input"),
            )
        ),
    ],
)
async def test_error_format(method: str, path: str, content: dict[str, Any], expected: Any) -> None:
    async with api(await service_with_voices("Nova")) as client:
        assert_error(await client.request(method, path, **content), *expected)


async def test_name_taken_is_not_retried() -> None:
    async with api(await service_with_voices("Nova")) as client:
        sample = {"audio_sample": ("a.wav", voice_wav(120.0))}
        response = await client.post("/v1/audio/voices", data={"name": "Nova", "consent": "Yes."}, files=sample)
    assert_error(response, 409, "conflict_error", "name_taken", "name")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Unavailable, (503, "server_error", "unavailable")),
        (ZeroDivisionError, (500, "server_error", "internal_error")),
    ],
)
async def test_server_errors_can_be_retried(fault: type[Exception], expected: Any) -> None:
    fakes = await service_with_voices("Nova")
    fakes.fail_after(0, fault)
    async with api(fakes) as client:
        response = await client.get("/v1/audio/voices")
    assert_error(response, *expected)


async def test_error_format_of_keys_and_quotas() -> None:
    fakes = FakeService(Settings(auth="keys", requests_per_minute=1))
    key, _ = await api_keys.make(fakes.resources, owner="alice", name="test", scopes=("preview",), expires_at=None)
    headers = {"Authorization": f"Bearer {key}"}
    sample = {"recording": ("a.wav", voice_wav(120.0))}
    async with api(fakes) as client:
        assert_error(await client.get("/v1/models"), 401, "authentication_error", "unauthorized")
        no_scope = await client.post("/v1/audio/voice_consents", files=sample, headers=headers)
        assert_error(no_scope, 403, "permission_error", "forbidden")
        responses = [await client.get("/v1/models", headers=headers) for _ in range(3)]
    assert_error(responses[-1], 429, "rate_limit_error", "too_many_requests")
    assert int(responses[-1].headers["retry-after"]) > 0


async def test_error_format_outside_v1() -> None:
    async with api(FakeService()) as client:
        response = await client.get("/voices/nobody")
    assert response.headers["content-type"] == "application/problem+json"
    assert "x-request-id" not in response.headers


@pytest.mark.parametrize("named", ["nova-of-nowhere", "Nova of Nowhere", " nova OF nowhere "])
async def test_find_voice_by_id_or_name(named: str) -> None:
    fakes = await service_with_voices("Nova of Nowhere", "Nova")
    assert (await find_voice(fakes.resources, None, named)).voice_id == "nova-of-nowhere"


@pytest.mark.parametrize("name", ["Zoe\u0308", "ZOË ", "zoë"])
async def test_find_voice_with_equal_slug(name: str) -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Zoe")
    saved = await voice_changes.save(fakes.resources, None, await fakes.session(), "Zoë")
    assert (await find_voice(fakes.resources, None, name)).voice_id == saved.voice_id
    assert (await find_voice(fakes.resources, None, "zoe")).voice_id == "zoe"


async def test_find_voice_after_rename() -> None:
    fakes = await service_with_voices("Nova")
    await voice_renaming.rename(fakes.resources, None, "nova", name="Stella")
    for named in ("Stella", "nova"):
        assert (await find_voice(fakes.resources, None, named)).voice_id == "nova"
    with pytest.raises(NotFound):
        await find_voice(fakes.resources, None, "Luna")


async def test_speech_without_av_creates_no_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fakes = await service_with_voices("Nova")
    before = list(fakes.synthesis.bodies)
    monkeypatch.setitem(sys.modules, "av", None)
    async with api(fakes) as client:
        for changes in ({"speed": 2}, {"response_format": "aac"}):
            response = await client.post("/v1/audio/speech", json=SPEECH | changes)
            assert response.status_code == 422
            assert "`av`" in response.json()["error"]["message"]
    assert fakes.synthesis.bodies == before


async def test_voice_with_unknown_consent_id() -> None:
    async with api(FakeService()) as client:
        for consent in ("cons_1234", "0" * 32):
            sample = {"audio_sample": ("a.wav", voice_wav(120.0))}
            response = await client.post(
                "/v1/audio/voices", data={"name": "Nova", "consent": consent}, files=sample
            )
            assert response.status_code == 404
        assert (await client.get("/v1/audio/voices")).json()["data"] == []
