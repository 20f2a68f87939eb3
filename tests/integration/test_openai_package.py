"""The unmodified `openai` package as a client of the whole service.  Only `base_url` is set."""

import asyncio
import base64
import io
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.audio import Voice

from functions.local.server import local_app
from gpu_runner.engines.mock import MockEngine
from gpu_runner.engines.pitch import median_pitch
from pipeline.access import api_keys
from pipeline.audio.reference_audio import Recording
from pipeline.audio.wav import read_wav
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.domain import jobs
from tests.support.http_server import PREVIEW_WAV, override, run_server, run_simple_worker
from tests.support.openai_service import Service, decoded, service
from tests.support.speech import voice_wav
from tests.support.waiting import eventually

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]

DOCS = Path(__file__).parents[2] / "docs"
PITCH = 150.0
TEXT = "This is long enough to last for several seconds, so that there is something to hear of it."
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


@pytest.fixture(scope="module")
def sample() -> bytes:
    return voice_wav(PITCH, seconds=3)


@pytest.fixture
async def running(resources: Resources) -> AsyncIterator[Service]:
    async with service(resources) as one:
        yield one


@pytest.fixture
async def client(running: Service) -> AsyncIterator[AsyncOpenAI]:
    async with running.client() as client:
        yield client


async def save_voice(client: AsyncOpenAI, sample: bytes, name: str = "Nova of Nowhere") -> Voice:
    """Save a voice as in OpenAI's guide to custom voices: with a recorded consent."""
    consent = await client.audio.voice_consents.create(
        name="Nova's", language="en-US", recording=("consent.wav", sample, "audio/wav")
    )
    return await client.audio.voices.create(
        name=name, audio_sample=("sample.wav", sample, "audio/wav"), consent=consent.id
    )


async def speak(client: AsyncOpenAI, voice: str, format_: Format = "wav", **more: Any) -> bytes:
    response = await client.audio.speech.create(
        model="tts-1", voice=voice, input=TEXT, response_format=format_, **more
    )
    return response.content


def seconds(recording: Recording) -> float:
    return len(recording.samples) / recording.sample_rate


async def test_speech_formats(client: AsyncOpenAI, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    whole = decoded(await speak(client, voice.id))
    assert seconds(whole) > 3
    for format_ in get_args(Format):
        response = await client.audio.speech.create(
            model="gpt-4o-mini-tts", voice=voice.id, input=TEXT, response_format=format_
        )
        assert response.response.headers["content-type"].partition(";")[0] == MEDIA_TYPES[format_]
        if format_ == "pcm":
            assert len(response.content) / 2 / 24_000 == pytest.approx(seconds(whole), abs=0.001)
            continue
        audio = decoded(response.content)
        assert seconds(audio) == pytest.approx(seconds(whole), abs=0.15), format_
        assert median_pitch(audio) == pytest.approx(PITCH, rel=0.05), format_


async def test_docs_example_runs(running: Service, sample: bytes, tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (DOCS / "openai.md").read_text(), re.DOTALL)
    assert block
    program = block[1].replace("http://127.0.0.1:8000", running.url)
    (tmp_path / "sample.wav").write_bytes(sample)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=tmp_path)
    try:
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert median_pitch(decoded((tmp_path / "hello.mp3").read_bytes(), "mp3")) == pytest.approx(PITCH, rel=0.05)


async def test_speech_defaults_to_mp3(client: AsyncOpenAI, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    response = await client.audio.speech.create(model="tts-1", voice=voice.id, input="Hello.")
    assert response.response.headers["content-type"] == "audio/mpeg"
    assert seconds(decoded(response.content, "mp3")) > 0.3


async def test_speech_voice_id_name_or_object(client: AsyncOpenAI, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    same: dict[str, Any] = {"model": "tts-1", "input": TEXT, "response_format": "pcm", "extra_body": {"seed": 1}}
    by_id = await client.audio.speech.create(voice=voice.id, **same)
    by_name = await client.audio.speech.create(voice="nova OF nowhere", **same)
    by_object = await client.audio.speech.create(voice={"id": voice.id}, **same)
    assert by_id.content == by_name.content == by_object.content != b""


async def test_speech_with_reference_audio(client: AsyncOpenAI, sample: bytes) -> None:
    response = await client.audio.speech.create(
        model="tts-1",
        voice="alloy",  # required by the package; ref_audio takes precedence
        input=TEXT,
        response_format="wav",
        extra_body={
            "ref_audio": base64.b64encode(sample).decode(),
            "ref_text": "What I say.",
            "language": "English",
            "seed": 7,
        },
    )
    assert median_pitch(decoded(response.content)) == pytest.approx(PITCH, rel=0.05)


@pytest.mark.slow
async def test_speech_speed_keeps_pitch(client: AsyncOpenAI, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    normal = decoded(await speak(client, voice.id))
    for speed in (0.25, 0.5, 1.5, 4.0):
        audio = decoded(await speak(client, voice.id, speed=speed))
        assert seconds(audio) == pytest.approx(seconds(normal) / speed, rel=0.05)
        assert median_pitch(audio) == pytest.approx(PITCH, rel=0.05)


async def test_speech_instructions_warn(client: AsyncOpenAI, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    response = await client.audio.speech.with_raw_response.create(
        model="gpt-4o-mini-tts", voice=voice.id, input="Hello.", instructions="Speak like a pirate."
    )
    assert response.status_code == 200
    assert "instructions" in response.headers["x-warning"]


async def stored_samples(resources: Resources, job_id: str) -> bytes:
    wav = await resources.bucket.get(layout.preview(job_id))
    assert wav is not None
    return read_wav(wav)[1]


async def test_speech_streams_during_synthesis(resources: Resources, sample: bytes) -> None:
    async with service(resources, MockEngine(speed=4)) as one, one.client() as client:
        voice = await save_voice(client, sample)
        for format_ in ("pcm", "wav", "mp3"):
            async with client.audio.speech.with_streaming_response.create(
                model="tts-1", voice=voice.id, input=TEXT, response_format=format_, stream_format="audio"
            ) as response:
                job_id, pieces = response.headers["x-job-id"], response.iter_bytes()
                first = await anext(pieces)
                assert await jobs.read_outcome(resources, job_id) is None, format_
                streamed = first + b"".join([piece async for piece in pieces])
            samples = await stored_samples(resources, job_id)
            if format_ == "mp3":
                assert seconds(decoded(streamed)) == pytest.approx(len(samples) / 2 / 24_000, abs=0.15)
            else:
                assert streamed[0 if format_ == "pcm" else 44 :] == samples


@pytest.mark.slow
async def test_speech_streams_with_speed(resources: Resources, sample: bytes) -> None:
    async with service(resources, MockEngine(speed=4)) as one, one.client() as client:
        voice = await save_voice(client, sample)
        async with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice=voice.id, input=TEXT, response_format="pcm", speed=2
        ) as response:
            pieces = response.iter_bytes()
            first = await anext(pieces)
            assert await jobs.read_outcome(resources, response.headers["x-job-id"]) is None
            streamed = first + b"".join([piece async for piece in pieces])
        samples = await stored_samples(resources, response.headers["x-job-id"])
    assert len(streamed) == pytest.approx(len(samples) / 2, rel=0.05)


async def test_speech_streams_sse_events(resources: Resources, sample: bytes) -> None:
    async with service(resources, MockEngine(speed=4)) as one, one.client() as client:
        voice = await save_voice(client, sample)
        found: list[dict[str, Any]] = []
        async with client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice=voice.id, input=TEXT, response_format="pcm", stream_format="sse"
        ) as response:
            assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
            async for line in response.iter_lines():
                if not found:
                    assert await jobs.read_outcome(resources, response.headers["x-job-id"]) is None
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
        samples = await stored_samples(resources, response.headers["x-job-id"])
    *deltas, done = found
    assert len(deltas) > 1
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == samples
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


async def count_previews(resources: Resources) -> int:
    """Return the number of previews in the storage."""
    return len([item async for item in resources.bucket.list(layout.PREVIEWS)])


async def test_retry_after_timeout_joins_job(resources: Resources, sample: bytes) -> None:
    async with service(resources, MockEngine(delay_seconds=1.5)) as one:
        async with one.client() as client:
            voice = await save_voice(client, sample)
        one.traffic.requests.clear()
        async with one.client(timeout=1) as impatient:
            assert seconds(decoded(await speak(impatient.with_options(max_retries=20), voice.id))) > 3
        assert len(one.traffic.requests) > 1
        assert await count_previews(resources) == 1


@pytest.mark.slow
async def test_retry_until_audio_is_ready(resources: Resources, sample: bytes) -> None:
    impatient = replace(resources, settings=override(resources.settings, preview_wait_seconds=1))
    async with service(impatient, MockEngine(delay_seconds=2)) as one, one.client() as client:
        voice = await save_voice(client, sample)
        one.traffic.requests.clear()
        assert seconds(decoded(await speak(client, voice.id))) > 3
        assert len(one.traffic.requests) > 1
        assert await count_previews(resources) == 1


@pytest.mark.slow
async def test_timeout_without_retry_cancels_job(resources: Resources, sample: bytes) -> None:
    async with service(resources, MockEngine(delay_seconds=60)) as one, one.client() as client:
        voice = await save_voice(client, sample)
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=1, max_retries=0).audio.speech.create(
                model="tts-1", voice=voice.id, input=TEXT
            )

        async def is_cancelled() -> bool:
            keys = [item.key async for item in resources.bucket.list(layout.JOBS)]
            return any(key == layout.cancellation(layout.id_in(key, layout.JOBS)) for key in keys)

        assert not await is_cancelled()
        await eventually(is_cancelled)


@pytest.mark.slow
@pytest.mark.parametrize("headers", [{"X-Stainless-Retry-Count": "1"}, {"Idempotency-Key": "a"}])
async def test_joined_job_streams_from_start(resources: Resources, sample: bytes, headers: dict[str, str]) -> None:
    async with service(resources, MockEngine(speed=1)) as one, one.client() as client:
        voice = await save_voice(client, sample)

        async def stream(more: dict[str, str]) -> tuple[bool, bytes]:
            """Return whether the audio began before the job ended, and the audio."""
            async with client.audio.speech.with_streaming_response.create(
                model="tts-1", voice=voice.id, input=TEXT, response_format="pcm", extra_headers=more
            ) as response:
                pieces = response.iter_bytes()
                first = await anext(pieces)
                is_early = await jobs.read_outcome(resources, response.headers["x-job-id"]) is None
                return is_early, first + b"".join([piece async for piece in pieces])

        creating = asyncio.create_task(stream({name: text for name, text in headers.items() if text != "1"}))
        await asyncio.sleep(1)
        assert await stream(headers) == await creating == (True, (await creating)[1])
    assert await count_previews(resources) == 1


@pytest.mark.slow
async def test_repeated_request_makes_new_job(client: AsyncOpenAI, resources: Resources, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    await speak(client, voice.id)
    await speak(client, voice.id)
    assert await count_previews(resources) == 2


async def test_idempotency_key(client: AsyncOpenAI, resources: Resources, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    one, same = [
        await speak(client, voice.id, "pcm", extra_headers={"Idempotency-Key": "chapter-1"}) for _ in range(2)
    ]
    assert one == same
    assert await count_previews(resources) == 1
    with pytest.raises(openai.UnprocessableEntityError):
        await speak(client, voice.id, "flac", extra_headers={"Idempotency-Key": "chapter-1"})


async def test_consent_and_voice_lifecycle(client: AsyncOpenAI, resources: Resources, sample: bytes) -> None:
    consents = client.audio.voice_consents
    made = [
        await consents.create(name=f"Consent {number}", language="en-US", recording=("c.wav", sample))
        for number in range(3)
    ]
    assert [one.id async for one in consents.list(limit=2)] == [one.id for one in made]
    renamed = await consents.update(made[0].id, name="Nova's")
    assert (await consents.retrieve(made[0].id)).name == renamed.name == "Nova's"
    deleted = await consents.delete(made[2].id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made[2].id, True, "audio.voice_consent")
    with pytest.raises(openai.NotFoundError):
        await consents.retrieve(made[2].id)

    voice = await client.audio.voices.create(name="小明", audio_sample=("a.wav", sample), consent=made[0].id)
    assert (voice.id, voice.name, voice.object, voice.type) == ("xiao-ming", "小明", "audio.voice", "audio_sample")

    async def files() -> str:
        return " ".join([item.key async for item in resources.voices.list(layout.VOICES)])

    async def has_embedding() -> bool:
        return "embedding.json" in await files()

    assert "consent" in await files()
    await eventually(has_embedding)  # the worker could store it after the voice is deleted
    gone = await client.audio.voices.delete(voice.id)
    assert (gone.id, gone.deleted, gone.object) == (voice.id, True, "audio.voice.deleted")
    assert await files() == ""


@pytest.mark.slow
async def test_large_audio_redirects_to_storage(resources: Resources, sample: bytes) -> None:
    """As on AWS Lambda, where responses have at most 6 MB."""
    small = override(resources.settings, answer_max_megabytes=0.01)
    async with (
        run_server(local_app(small)) as url,
        run_simple_worker(resources),
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any string") as client,
    ):
        voice = await save_voice(client, sample)
        response = await client.audio.speech.create(
            model="tts-1", voice=voice.id, input=TEXT, response_format="wav"
        )
    assert [first.status_code for first in response.response.history] == [303]
    assert response.content == PREVIEW_WAV


async def test_models_list_and_retrieve(client: AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert {"mock", "tts-1"} <= {model.id for model in listed}
    assert (await client.models.retrieve("tts-1")).object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("whisper-1")
    assert caught.value.code


async def test_errors_name_parameter_and_are_final(running: Service, client: AsyncOpenAI, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    consent = await client.audio.voice_consents.create(name="C", language="en", recording=("c.wav", sample))
    speech, voices = client.audio.speech, client.audio.voices
    good: dict[str, Any] = {"model": "tts-1", "voice": voice.id, "input": "Hello."}
    audio = ("a.wav", sample)
    wrong: list[tuple[Callable[[], Awaitable[Any]], type[openai.APIStatusError], str | None]] = [
        (partial(speech.create, **good | {"voice": "nobody"}), openai.NotFoundError, "voice"),
        (partial(speech.create, **good | {"model": "whisper-1"}), openai.NotFoundError, "model"),
        (partial(speech.create, **good | {"input": "a" * 4097}), openai.UnprocessableEntityError, "input"),
        (partial(speech.create, **good | {"input": " "}), openai.UnprocessableEntityError, "input"),
        (partial(speech.create, **good, speed=4.5), openai.UnprocessableEntityError, "speed"),
        (
            partial(speech.create, **good | {"response_format": "midi"}),
            openai.UnprocessableEntityError,
            "response_format",
        ),
        (
            partial(speech.create, **good, extra_body={"ref_audio": "no base64!"}),
            openai.UnprocessableEntityError,
            "ref_audio",
        ),
        (
            partial(voices.create, name=voice.name, audio_sample=audio, consent=consent.id),
            openai.ConflictError,
            "name",
        ),
        (
            partial(voices.create, name="Other", audio_sample=audio, consent="0" * 32),
            openai.NotFoundError,
            "consent",
        ),
        (
            partial(voices.create, name="Other", audio_sample=b"mud", consent="yes"),
            openai.APIStatusError,
            "audio_sample",
        ),
        (partial(voices.create, name="Other", type="prompt", prompt="A"), openai.UnprocessableEntityError, None),
        (partial(voices.delete, "nobody"), openai.NotFoundError, None),
    ]
    for call, kind, param in wrong:
        running.traffic.requests.clear()
        with pytest.raises(openai.APIStatusError) as caught:
            await call()
        error = caught.value
        assert isinstance(error, kind), error
        assert error.request_id
        assert error.code
        assert error.type
        assert isinstance(error.body, dict)
        assert error.body["message"]
        if param:
            assert error.param is not None, error
            assert error.param.startswith(param)
        assert len(running.traffic.requests) == 1, error
    assert [item["id"] for item in (await client.get("/audio/voices", cast_to=dict[str, Any]))["data"]] == [
        voice.id
    ]


async def test_unknown_route_and_large_body_errors(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.embeddings.create(model="tts-1", input="Hello.")
    assert caught.value.request_id
    assert caught.value.code
    with pytest.raises(openai.APIStatusError) as too_large:
        await client.audio.voices.create(name="A", consent="yes", audio_sample=io.BytesIO(b"\0" * 40_000_000))
    assert (too_large.value.status_code, too_large.value.code) == (413, "too_large")


async def test_api_key_authentication(resources: Resources, sample: bytes) -> None:
    with_keys = override(resources.settings, auth="keys")
    key, _ = await api_keys.make(
        resources, owner="alice", name="test", scopes=("preview", "voices:write"), expires_at=None
    )
    async with service(replace(resources, settings=with_keys)) as one:
        async with one.client(key) as client:
            voice = await save_voice(client, sample)
            assert len(await speak(client, voice.id)) > 1000
        async with one.client("sk-other") as stranger:
            one.traffic.requests.clear()
            with pytest.raises(openai.AuthenticationError) as caught:
                await speak(stranger, voice.id)
            assert caught.value.code
            assert len(one.traffic.requests) == 1


@pytest.mark.slow
async def test_parallel_requests(client: AsyncOpenAI, sample: bytes) -> None:
    voice = await save_voice(client, sample)
    responses = await asyncio.gather(*(speak(client, voice.id, extra_body={"seed": seed}) for seed in range(6)))
    assert all(seconds(decoded(response)) > 3 for response in responses)
