"""Errors under `/v1`."""

from typing import Any

import pytest

from pipeline.access import api_keys
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.support.api import api
from tests.support.fake_service import FakeService
from tests.support.openai_api import SPEECH, assert_error, service_with_voices
from tests.support.speech import voice_wav

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
                ({"ref_audio": "AAAA"}, (422, "invalid_request_error", "invalid_audio"), "ref_audio"),
                ({"language": "Klingon"}, INVALID, "language"),
                ({"input": "a" * 4097}, INVALID, "input"),
                ({"input": " "}, INVALID, "input"),
                ({"voice": None}, INVALID, "voice"),
                ({"voice": {"id": 5}}, INVALID, "voice"),
                ({"voice": {"name": "Nova"}}, INVALID, "voice"),
                ({"ref_audio": "", "ref_text": "a" * 4097}, INVALID, "ref_text"),
                ({"ref_audio": "data:audio/wav,AAAA"}, INVALID, "ref_audio"),
                ({"ref_audio": "A=A="}, INVALID, "ref_audio"),
                ({"ref_audio": "AAAA" * 2**18 + "A===" + "AAAA"}, INVALID, "ref_audio"),
                ({"ref_audio": "A A A A" * 4}, (422, "invalid_request_error", "invalid_audio"), "ref_audio"),
                ({"ref_audio": "\u00e9" * 2**17}, INVALID, "ref_audio"),
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
