"""`/v1/audio/speech`: reference recordings, retries, and errors of jobs."""

import asyncio
import base64
import json
import sys
import textwrap

import pytest

from functions.http.openai.retries import RETRY_COUNT
from pipeline.contract import layout
from pipeline.contract.messages.stream_messages import AudioChunk, encode_pcm, stream_message
from pipeline.contract.records import Subscriber
from pipeline.domain import jobs
from pipeline.errors import InvalidInput
from pipeline.settings import Settings
from tests.support.api import api, app_of, last_request
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import settle
from tests.support.openai_api import SPEECH, assert_error, service_with_voices, speech
from tests.support.speech import voice_wav

JSON = {"content-type": "application/json"}


ASYNC = Settings(preview_wait_seconds=0)


def recording(**more: object) -> dict[str, object]:
    return SPEECH | {"ref_audio": base64.b64encode(voice_wav(120.0)).decode()} | more


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
        assert_error(
            await speech(client, dict(SPEECH), **key), 422, "invalid_request_error", "invalid_input", "input"
        )
