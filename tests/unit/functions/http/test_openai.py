"""What OpenAI's clients are answered: errors in their form, and the voice that a name means."""

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


def error(answer: httpx.Response, status: int, type_: str, code: str, param: str | None = None) -> None:
    """Assert that an answer is an error as OpenAI's clients read it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == answer.headers["x-correlation-id"]
    (body,) = answer.json().values()
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["message"]
    assert (body["type"], body["param"], body["code"]) == (type_, param, code)
    assert answer.headers.get("x-should-retry") == ("false" if status in {409, 422} else None)


async def world_with_voices(*names: str, settings: Settings | None = None) -> FakeService:
    fakes = FakeService(settings or Settings())
    for name in names:
        await voice_changes.save(fakes.resources, None, await fakes.session(), name)
    return fakes


JSON = {"content-type": "application/json"}
INVALID = (422, "invalid_request_error", "invalid_input")
UNKNOWN = (404, "not_found_error", "not_found")


@pytest.mark.parametrize(
    ("method", "path", "how", "expected"),
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
            ("POST", "/v1/audio/speech", {"json": SPEECH | wish}, (*expected, param))
            for wish, expected, param in (
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
async def test_errors_have_openais_form(method: str, path: str, how: dict[str, Any], expected: Any) -> None:
    async with api(await world_with_voices("Nova")) as client:
        error(await client.request(method, path, **how), *expected)


async def test_a_taken_name_is_not_tried_again() -> None:
    async with api(await world_with_voices("Nova")) as client:
        sample = {"audio_sample": ("a.wav", voice_wav(120.0))}
        answer = await client.post("/v1/audio/voices", data={"name": "Nova", "consent": "Yes."}, files=sample)
    error(answer, 409, "conflict_error", "name_taken", "name")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Unavailable, (503, "server_error", "unavailable")),
        (ZeroDivisionError, (500, "server_error", "internal_error")),
    ],
)
async def test_what_fails_here_may_be_tried_again(fault: type[Exception], expected: Any) -> None:
    fakes = await world_with_voices("Nova")
    fakes.fail_after(0, fault)
    async with api(fakes) as client:
        answer = await client.get("/v1/audio/voices")
    error(answer, *expected)


async def test_keys_and_quotas_have_openais_errors_too() -> None:
    fakes = FakeService(Settings(auth="keys", requests_per_minute=1))
    key, _ = await api_keys.make(fakes.resources, owner="alice", name="test", scopes=("preview",), expires_at=None)
    headers = {"Authorization": f"Bearer {key}"}
    sample = {"recording": ("a.wav", voice_wav(120.0))}
    async with api(fakes) as client:
        error(await client.get("/v1/models"), 401, "authentication_error", "unauthorized")
        no_scope = await client.post("/v1/audio/voice_consents", files=sample, headers=headers)
        error(no_scope, 403, "permission_error", "forbidden")
        answers = [await client.get("/v1/models", headers=headers) for _ in range(3)]
    error(answers[-1], 429, "rate_limit_error", "too_many_requests")
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_other_routes_keep_their_errors() -> None:
    async with api(FakeService()) as client:
        answer = await client.get("/voices/nobody")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x-request-id" not in answer.headers


@pytest.mark.parametrize("named", ["nova-of-nowhere", "Nova of Nowhere", " nova OF nowhere "])
async def test_a_voice_is_found_by_id_or_name(named: str) -> None:
    fakes = await world_with_voices("Nova of Nowhere", "Nova")
    assert (await find_voice(fakes.resources, None, named)).voice_id == "nova-of-nowhere"


async def test_a_renamed_voice_is_found_by_its_new_name_and_its_id() -> None:
    fakes = await world_with_voices("Nova")
    await voice_renaming.rename(fakes.resources, None, "nova", name="Stella")
    for named in ("Stella", "nova"):
        assert (await find_voice(fakes.resources, None, named)).voice_id == "nova"
    with pytest.raises(NotFound):
        await find_voice(fakes.resources, None, "Luna")


async def test_a_speed_that_can_not_be_made_here_is_refused_before_a_job_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fakes = await world_with_voices("Nova")
    before = list(fakes.synthesis.bodies)
    monkeypatch.setitem(sys.modules, "av", None)
    async with api(fakes) as client:
        for wish in ({"speed": 2}, {"response_format": "aac"}):
            answer = await client.post("/v1/audio/speech", json=SPEECH | wish)
            assert answer.status_code == 422
            assert "`av`" in answer.json()["error"]["message"]
    assert fakes.synthesis.bodies == before


async def test_an_id_of_a_consent_that_is_not_stored_is_not_taken_for_words() -> None:
    async with api(FakeService()) as client:
        for consent in ("cons_1234", "0" * 32):
            sample = {"audio_sample": ("a.wav", voice_wav(120.0))}
            answer = await client.post("/v1/audio/voices", data={"name": "Nova", "consent": consent}, files=sample)
            assert answer.status_code == 404
        assert (await client.get("/v1/audio/voices")).json()["data"] == []
