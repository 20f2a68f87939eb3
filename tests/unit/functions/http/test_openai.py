"""The routes under `/v1`: errors, lookup of voices, and consents."""

import asyncio
import base64
import json
import sys
import textwrap
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from functions.http.openai.repeated_requests import RETRY_COUNT
from functions.http.openai.voice_lookup import find_voice
from pipeline.access import api_keys
from pipeline.contract import layout
from pipeline.contract.messages.stream_messages import AudioChunk, encode_pcm, stream_message
from pipeline.contract.records import Subscriber
from pipeline.domain import jobs, voice_changes, voice_renaming
from pipeline.errors import InvalidInput, NotFound, Unavailable
from pipeline.settings import Backend, Settings
from tests.support.api import api, app_of, last_request
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import settle
from tests.support.speech import voice_wav

SPEECH: dict[str, object] = {"model": "tts-1", "voice": "nova", "input": "Hello."}


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


def recording(**more: object) -> dict[str, object]:
    return SPEECH | {"ref_audio": base64.b64encode(voice_wav(120.0)).decode()} | more


async def speech(client: httpx.AsyncClient, body: dict[str, object], **headers: str) -> httpx.Response:
    """Create speech without waiting for the audio; return the response with the job."""
    return await client.post("/v1/audio/speech", json=body, headers=headers)


ASYNC = Settings(preview_wait_seconds=0)


async def test_ref_audio_precedes_voice() -> None:
    fakes = await service_with_voices("Nova", settings=ASYNC)
    async with api(fakes) as client:
        response = await speech(client, recording())
        assert response.headers["x-warning"] == "voice has no effect"
        request = await jobs.read_request(fakes.resources, response.headers["x-job-id"])
        assert request is not None
        assert request.source.voice_id is None
        assert "x-warning" not in (await speech(client, recording(voice=None))).headers


@pytest.mark.parametrize("seconds", [2, 40])
@pytest.mark.parametrize("form", ["{}", "data:audio/wav;base64,{}", "DATA:;Base64,{}", " {}\n", "lines", "escaped"])
async def test_ref_audio_formats(form: str, seconds: int) -> None:
    wav = voice_wav(120.0, seconds=seconds)
    encoded = base64.b64encode(wav).decode()
    value = "\r\n".join(textwrap.wrap(encoded, 76)) if form == "lines" else form.format(encoded)
    content = json.dumps(SPEECH | {"ref_audio": encoded if form == "escaped" else value})
    if form == "escaped":  # as by PHP and .NET
        content = content.replace("/", r"\/").replace("+", r"\u002B")
    fakes = FakeService(ASYNC)
    async with api(fakes) as client:
        response = await client.post("/v1/audio/speech", content=content, headers=JSON)
    assert response.status_code == 503, response.text
    request = await jobs.read_request(fakes.resources, response.headers["x-job-id"])
    assert request is not None
    assert fakes.bucket.objects[layout.session(request.source.session_id or "").audio].body == wav


async def test_ref_audio_in_idempotency_fingerprint() -> None:
    fakes = FakeService(ASYNC)
    bodies = [
        recording(ref_audio=base64.b64encode(voice_wav(pitch, seconds=5)).decode()) for pitch in (120.0, 150.0)
    ]
    async with api(fakes) as client:
        first, second = [await speech(client, bodies[0], **{"Idempotency-Key": "a"}) for _ in range(2)]
        other = await speech(client, bodies[1], **{"Idempotency-Key": "a"})
    assert first.headers["x-job-id"] == second.headers["x-job-id"]
    assert_error(other, 422, "invalid_request_error", "idempotency_key_reused", "Idempotency-Key")


async def test_equal_request_joins_only_retries() -> None:
    fakes = await service_with_voices("Nova", settings=ASYNC)

    async def job_of(retries: str | None) -> str:
        headers = {RETRY_COUNT: retries} if retries is not None else {}
        response = await speech(client, dict(SPEECH), **headers)
        return response.headers["x-job-id"]

    async with api(fakes) as client:
        first, second = await job_of(None), await job_of("0")
        assert first != second
        assert await job_of("1") == second
        request = await jobs.read_request(fakes.resources, second)
        assert request is not None
        await fakes.fail(request)
        third = await job_of("2")
        assert third not in {first, second}


async def test_retry_streams_from_start() -> None:
    fakes = await service_with_voices("Nova", settings=Settings(preview_wait_seconds=20))
    body, samples = SPEECH | {"response_format": "pcm"}, bytes(range(250)) * 240  # 1.25 s, as in `fakes.succeed`
    async with api(fakes) as client:
        waiters = app_of(fakes.resources.settings).state.services.waiters
        waiters.endpoint = "http://127.0.0.1:9"
        first = asyncio.create_task(speech(client, body))
        await settle()
        request = await last_request(fakes)
        retry = asyncio.create_task(speech(client, body, **{RETRY_COUNT: "1"}))
        await settle()
        (key,) = fakes.keys(layout.subscribers(request.job_id))
        later = Subscriber.model_validate_json(fakes.bucket.objects[key].body)
        assert (later.interface, later.stream) == ("http", True)
        chunk = AudioChunk(
            job_id=request.job_id,
            take="t",
            seq=0,
            sample_rate=24_000,
            audio_seconds=1.25,
            audio=encode_pcm(samples),
        )
        assert request.subscriber is not None
        connections = [subscriber.reply_to.connection_id for subscriber in (later, request.subscriber)]
        for connection in connections:
            waiters.deliver(connection, stream_message(chunk))
        await fakes.succeed(request)
        for connection in connections:
            waiters.deliver(connection, b"{}")
        for response in (await first, await retry):
            assert (response.status_code, response.content) == (200, samples)
            assert response.headers["x-job-id"] == request.job_id
    assert fakes.keys(layout.subscribers(request.job_id)) == []


@pytest.mark.parametrize("model", ["tts-1-1106", "tts-1-hd-1106", "openai/tts-1", "gpt-4o-mini-tts-2025-12-15"])
async def test_model_names(model: str) -> None:
    async with api(await service_with_voices("Nova", settings=ASYNC)) as client:
        assert (await speech(client, SPEECH | {"model": model})).status_code == 503
        assert (await client.get(f"/v1/models/{model}")).json()["id"] == model
        assert (await client.get("/v1/models/tts-2")).status_code == 404


@pytest.mark.parametrize(
    ("backend", "expected"), [("qwen", None), ("hibari", "not a clone"), ("mock", "test tones")]
)
async def test_models_describe_engine(backend: Backend, expected: str | None) -> None:
    async with api(FakeService(Settings(tts_backend=backend))) as client:
        models = (await client.get("/v1/models")).json()["data"]
        for model in models:
            assert expected is None if model["description"] is None else expected in model["description"]
            found = (await client.get(f"/v1/models/{model['id']}")).json()
            assert found["description"] == model["description"]


ALIASES = Settings(voice_aliases="alloy=nova, Ash = Stella,gone=nobody", preview_wait_seconds=0)


@pytest.mark.parametrize(
    ("name", "voice_id"), [("alloy", "nova"), ("ASH", "luna"), ("Stella", "luna"), ("gone", None)]
)
async def test_voice_aliases(name: str, voice_id: str | None) -> None:
    fakes = await service_with_voices("Nova", "Luna", settings=ALIASES)
    await voice_renaming.rename(fakes.resources, None, "luna", name="Stella")
    if voice_id is None:
        with pytest.raises(NotFound):
            await find_voice(fakes.resources, None, name)
    else:
        assert (await find_voice(fakes.resources, None, name)).voice_id == voice_id


async def test_voice_alias_fallback() -> None:
    fakes = await service_with_voices("Nova", "Alloy", settings=Settings(voice_aliases="alloy=nova,*=nova"))
    for name, voice_id in (("onyx", "nova"), ("alloy", "alloy"), ("*", "nova")):
        assert (await find_voice(fakes.resources, None, name)).voice_id == voice_id


async def test_voice_aliases_are_listed() -> None:
    async with api(await service_with_voices("Nova", "Stella", settings=ALIASES)) as client:
        listed = (await client.get("/v1/audio/voices")).json()
        model = (await client.get("/v1/models/tts-1")).json()
    names = {voice["id"]: voice["name"] for voice in listed["voices"]}
    assert names == {"nova": "Nova", "stella": "Stella", "alloy": "alloy", "ash": "ash"}
    assert [voice["id"] for voice in listed["data"]] == ["nova", "stella"]
    assert [voice["name"] for voice in model["voices"]] == ["nova", "stella"]


@pytest.mark.parametrize("aliases", ["alloy", "alloy=", "=nova", "alloy=nova,ash"])
def test_voice_aliases_invalid(aliases: str) -> None:
    with pytest.raises(ValidationError, match="should be names such as alloy=nova"):
        Settings(voice_aliases=aliases)


async def test_lists_without_key() -> None:
    """Without a key, the lists contain nothing of the owners of keys."""
    settings = Settings(auth="keys", lists_without_key=True, voice_aliases="alloy=nova,*=nova")
    async with api(await service_with_voices("Nova", settings=settings)) as client:
        voices = (await client.get("/v1/audio/voices")).json()
        assert voices["voices"] == [{"id": "alloy", "name": "alloy"}]
        assert voices["data"] == voices["uploaded_voices"] == []
        assert "tts-1" in {model["id"] for model in (await client.get("/v1/audio/models")).json()["models"]}
        for path in ("/v1/models", "/v1/audio/voices/nova", "/voices"):
            assert (await client.get(path)).status_code == 401
        wrong = await client.get("/v1/audio/voices", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
    async with api(await service_with_voices(settings=Settings(auth="keys"))) as client:
        assert (await client.get("/v1/audio/voices")).status_code == 401
        assert (await client.get("/v1/test")).json() == {"status": "ok"}


async def test_job_errors_name_the_field() -> None:
    """A worker's error names `text`; the field of `/v1/audio/speech` is `input`."""
    fakes = await service_with_voices("Nova", settings=Settings(preview_wait_seconds=0.05))
    async with api(fakes) as client:
        key = {"Idempotency-Key": "a"}
        job_id = (await speech(client, dict(SPEECH), **key)).headers["x-job-id"]
        request = await jobs.read_request(fakes.resources, job_id)
        assert request is not None
        error = InvalidInput("The text has no words.", field="text")
        await jobs.write_outcome(fakes.resources, jobs.failure(request, error, fakes.time()))
        assert_error(await speech(client, dict(SPEECH), **key), *INVALID, "input")
