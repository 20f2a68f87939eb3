"""The HTTP API over fakes: every route, every error, every header."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from aiohttp import web
from supervision.ports import free_port

from pipeline.audio.reference_audio import encode_wav
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Options, Request
from pipeline.domain import jobs, voice_changes
from pipeline.errors import Misconfigured, SynthesisFailed, Unavailable
from pipeline.settings import Settings
from tests.support.api import api, fields, problem
from tests.support.fake_service import FakeService, reference_recording
from tests.support.fakes import FakeBucket, FakeQueue, Switch
from tests.support.speech import voice_wav

ASYNC = {"Prefer": "respond-async"}
WAV = encode_wav(reference_recording())


async def last_request(fakes: FakeService) -> Request:
    ticket = parse_queue_message(fakes.synthesis.bodies[-1])
    assert ticket is not None
    request = await jobs.read_request(fakes.resources, ticket.job_id)
    assert request is not None
    return request


async def speaking(
    fakes: FakeService, calling: "asyncio.Task[httpx.Response]", error: Exception | None = None
) -> httpx.Response:
    """Play the worker once, while a request waits."""
    while not fakes.synthesis.bodies and not calling.done():  # noqa: ASYNC110 - there is nothing to wait for but turns
        await asyncio.sleep(0)
    request = await last_request(fakes)
    if error is None:
        await fakes.succeed(request)
    else:
        await jobs.write_outcome(fakes.resources, jobs.failure(request, error, fakes.time()))  # type: ignore[arg-type]
    return await calling


async def test_a_preview_from_upload_to_sound() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"transcription": " What I say. ", "response_text": "Hello.", "language": "english", "seed": "7"}
        calling = asyncio.ensure_future(client.post("/preview", data=form, files={"audio": ("a.wav", WAV)}))
        answer = await speaking(fakes, calling)
    request = await last_request(fakes)
    assert (answer.status_code, answer.content) == (200, b"RIFF")
    assert answer.headers["content-type"] == "audio/wav"
    assert 'filename="preview.wav"' in answer.headers["content-disposition"]
    assert answer.headers["x-job-id"] == request.job_id
    assert answer.headers["x-session-id"] == request.source.session_id
    assert answer.headers["content-location"] == f"/previews/{request.job_id}.wav"
    assert answer.headers["expires"] == "Thu, 01 Jan 2026 00:20:00 GMT"
    keys = layout.session(answer.headers["x-session-id"])
    assert fakes.bucket.objects[keys.transcription].body == b"What I say."
    assert fakes.bucket.objects[keys.audio].body.startswith(b"RIFF")
    assert (request.text, request.options) == ("Hello.", Options(language="English", seed=7))
    assert request.new_reference is not None


async def test_a_saved_voice_speaks() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    async with api(fakes) as client:
        form = {"voice_id": "nova", "response_text": "Hello."}
        calling = asyncio.ensure_future(client.post("/preview-from-voice", data=form))
        answer = await speaking(fakes, calling)
    assert answer.status_code == 200
    assert "x-session-id" not in answer.headers
    assert (await last_request(fakes)).source.voice_id == "nova"


async def test_a_job_that_fails_is_a_problem_with_its_id() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        form = {"session_id": session_id, "response_text": "Hello."}
        calling = asyncio.ensure_future(client.post("/preview", data=form))
        answer = await speaking(fakes, calling, SynthesisFailed("It could not be."))
    body = problem(answer, 502, "synthesis_failed")
    assert body["error"] == "It could not be."
    assert body["job_id"] == answer.headers["x-job-id"]


async def test_a_preview_that_can_not_be_read_is_a_problem_with_its_id() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        form = {"session_id": session_id, "response_text": "Hello."}
        calling = asyncio.ensure_future(client.post("/preview", data=form))
        while not fakes.synthesis.bodies:  # noqa: ASYNC110 - there is nothing to wait for but turns
            await asyncio.sleep(0)
        request = await last_request(fakes)
        await fakes.succeed(request)
        fakes.bucket.switch = NoReads()
        body = problem(answer := await calling, 503, "unavailable")
    assert body["job_id"] == answer.headers["x-job-id"] == request.job_id
    assert answer.headers["x-session-id"] == session_id


async def test_a_misconfiguration_is_not_something_to_try_again() -> None:
    fakes = FakeService()
    fakes.fail_after(0, Misconfigured)
    async with api(fakes) as client:
        body = problem(answer := await client.get("/voices"), 500, "misconfigured")
    assert "misconfigured" in body["error"]
    assert "simulated failure" not in body["error"]
    assert "retry-after" not in answer.headers


async def test_a_job_that_is_no_longer_wanted_ends_as_cancelled() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        waiting = asyncio.ensure_future(client.post("/preview", data=form))
        while not fakes.synthesis.bodies:  # noqa: ASYNC110 - there is nothing to wait for but turns
            await asyncio.sleep(0)
        job_id = (await last_request(fakes)).job_id
        cancelled = await client.delete(f"/jobs/{job_id}")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "failed")
        assert cancelled.json()["code"] == "cancelled"
        assert (await client.get(f"/jobs/{job_id}")).json() == cancelled.json()
        assert problem(await waiting, 409, "cancelled")["job_id"] == job_id
        again = await client.delete(f"/jobs/{job_id}")
        assert again.json() == cancelled.json()
        problem(await client.delete(f"/jobs/{fakes.resources.new_id()}"), 404, "not_found")


class NoReads(Switch):
    """Finds objects, and does not give them out."""

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        if call == "read":
            raise Unavailable("no answer in time")


@pytest.mark.parametrize(
    ("method", "query", "headers", "status"),
    [
        ("HEAD", "", {}, 200),
        ("HEAD", "", {"If-None-Match": "*"}, 304),
        ("GET", "", {"If-None-Match": "*"}, 304),
        ("GET", "?signed=1", {}, 303),
    ],
)
async def test_audio_that_is_not_answered_is_not_read(
    method: str, query: str, headers: dict[str, str], status: int
) -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    fakes.recover()
    async with api(fakes) as client:
        answer = await client.request(method, f"/previews/{request.job_id}.wav{query}", headers=headers)
    assert answer.status_code == status
    assert fakes.bucket.switch.count("read") == 0
    if status == 200:
        assert answer.headers["content-length"] == "4"
        assert answer.headers["content-type"] == "audio/wav"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("respond-async", "respond-async"), ("wait=0", "wait=0"), ("respond-async, wait=0", "respond-async, wait=0")],
)
async def test_who_does_not_want_to_wait_gets_a_job(prefer: str, applied: str) -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        form = {"session_id": session_id, "response_text": "Hello."}
        answer = await client.post("/preview", data=form, headers={"Prefer": prefer})
        assert answer.status_code == 202
        job_id = answer.headers["x-job-id"]
        assert answer.headers["location"] == f"/jobs/{job_id}"
        assert answer.headers["preference-applied"] == applied
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json() == {
            "job_id": job_id,
            "status": "queued",
            "created_at": "2026-01-01T00:00:00Z",
            "ahead": 0,
            "session_id": session_id,
        }
        queued = await client.get(answer.headers["location"])
        assert (queued.json()["status"], queued.headers["retry-after"]) == ("queued", "1")
        await fakes.succeed(await last_request(fakes))
        done = await client.get(answer.headers["location"])
        assert "retry-after" not in done.headers
        assert done.json() == {
            "job_id": job_id,
            "status": "succeeded",
            "created_at": "2026-01-01T00:00:00Z",
            "completed_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-01T00:20:00Z",
            "session_id": session_id,
            "audio_url": f"/previews/{job_id}.wav",
            "duration_seconds": 1.25,
            "sample_rate": 24_000,
            "timings": {"queued_seconds": 0, "synthesis_seconds": 0.5, "real_time_factor": 0.4},
        }
    assert (await last_request(fakes)).subscriber is None


async def test_who_waits_is_told_how_many_are_ahead_and_when_to_ask_again() -> None:
    fakes = FakeService(Settings(worker_batch_size=2))
    for _ in range(4):
        await fakes.job()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await client.post("/preview", data=form, headers=ASYNC)
        assert (answer.json()["ahead"], answer.headers["retry-after"]) == (4, "3")
        queued = await client.get(answer.headers["location"])
        assert (queued.json()["ahead"], queued.headers["retry-after"]) == (4, "3")
        unready = await client.get(f"/previews/{answer.headers['x-job-id']}.wav")
        assert unready.headers["retry-after"] == "3"
        fakes.advance(seconds=60)
        assert (await client.get(answer.headers["location"])).headers["retry-after"] == "12"
        fakes.advance(minutes=59, seconds=-1)
        assert (await client.get(answer.headers["location"])).headers["retry-after"] == "30"
    assert fakes.synthesis.switch.count("depth") == 3


async def test_a_preview_in_time_does_not_ask_how_many_are_ahead() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await speaking(fakes, asyncio.create_task(client.post("/preview", data=form)))
    assert answer.status_code == 200
    assert fakes.synthesis.switch.calls == ["send"]


async def test_what_takes_too_long_becomes_a_job() -> None:
    fakes = FakeService(Settings(preview_wait_seconds=0.01))
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await client.post("/preview", data=form)
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize(
    ("form", "files", "field"),
    [
        ({}, {"audio": WAV}, "response_text"),
        ({"response_text": ""}, {"audio": WAV}, "response_text"),
        ({"response_text": " \n"}, {"audio": WAV}, "response_text"),
        ({"response_text": "a" * 4097}, {"audio": WAV}, "response_text"),
        ({"response_text": "Hello."}, {}, "audio"),
        ({"response_text": "Hello."}, {"audio": b""}, "audio"),
        ({"response_text": "Hello."}, {"audio": b"nonsense"}, "audio"),
        ({"response_text": "Hello."}, {"audio": WAV[:-100]}, "audio"),
        ({"response_text": "Hello.", "audio": "text"}, {}, "audio"),
        ({"response_text": "Hello.", "transcription": "a" * 4097}, {"audio": WAV}, "transcription"),
        ({"response_text": "Hello.", "language": "Klingon"}, {"audio": WAV}, "language"),
        ({"response_text": "Hello.", "top_p": "2"}, {"audio": WAV}, "top_p"),
        ({"response_text": "Hello.", "sead": "7"}, {"audio": WAV}, "sead"),
        ({"response_text": "Hello.", "session_id": "nonsense"}, {}, "session_id"),
        ({"response_text": "Hello.", "session_id": "0" * 32}, {"audio": WAV}, "audio"),
    ],
)
async def test_a_preview_that_can_not_be(form: dict[str, str], files: dict[str, bytes], field: str) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        parts = {name: ("a.wav", data) for name, data in files.items()} or None
        body = problem(await client.post("/preview", data=form, files=parts), 422)
    assert fields(body) == [field]
    assert field in body["error"] or body["code"] == "invalid_audio"
    assert (fakes.keys(), fakes.synthesis.bodies) == ([], [])


@pytest.mark.parametrize(
    ("form", "status", "field"),
    [
        ({"response_text": "Hello."}, 422, "voice_id"),
        ({"voice_id": "nova"}, 422, "response_text"),
        ({"voice_id": "nobody", "response_text": "Hello."}, 404, "voice_id"),
        ({"voice_id": "../x", "response_text": "Hello."}, 404, "voice_id"),
    ],
)
async def test_a_voice_that_can_not_speak(form: dict[str, str], status: int, field: str) -> None:
    async with api(FakeService()) as client:
        assert fields(problem(await client.post("/preview-from-voice", data=form), status)) == [field]


async def test_all_fields_at_fault_are_named() -> None:
    async with api(FakeService()) as client:
        body = problem(await client.post("/preview-from-voice", data={}), 422, "invalid_input")
    assert fields(body) == ["voice_id", "response_text"]


async def test_the_life_of_a_voice() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        upload = await client.post("/upload", files={"audio": ("a.wav", WAV)}, data={"transcription": "Said."})
        assert upload.status_code == 200
        session_id = upload.json()["session_id"]
        assert upload.headers["deprecation"].startswith("@")
        assert upload.headers["link"] == '</preview>; rel="successor-version"'
        saved = await client.post("/voices", json={"session_id": session_id, "name": "Nova", "description": "calm"})
        assert saved.status_code == 201
        assert saved.headers["location"] == "/voices/nova"
        assert saved.json() == {
            "voice_id": "nova",
            "name": "Nova",
            "description": "calm",
            "created_at": "2026-01-01T00:00:00Z",
            "source_file": f"audio/voices/nova/{session_id}/source.wav",
            "embedding_file": f"audio/voices/nova/{session_id}/embedding.json",
            "transcription_file": f"audio/voices/nova/{session_id}/transcription.txt",
            "duration_seconds": 2.0,
            "sample_rate": 16_000,
            "model": None,
            "consent": None,
        }
        assert (await client.get("/voices/nova")).json() == saved.json()
        assert (await client.get("/voices")).json() == {"voices": [saved.json()]}
        again = await client.post("/voices", json={"session_id": session_id, "name": "nova"})
        assert fields(problem(again, 409, "name_taken")) == ["name"]
        assert (await client.delete("/voices/nova")).status_code == 204
        for gone in (await client.get("/voices/nova"), await client.delete("/voices/nova")):
            problem(gone, 404, "not_found")
        assert (await client.get("/voices")).json() == {"voices": []}


async def test_voices_come_in_pages() -> None:
    fakes = FakeService()
    for name in ("Nova 2", "Nova", "Ann", "Nova2"):
        await voice_changes.save(fakes.resources, None, await fakes.session(), name)
    async with api(fakes) as client:
        seen, url = [], "/voices?limit=1"
        while True:
            page = (await client.get(url)).json()
            seen += [voice["voice_id"] for voice in page["voices"]]
            if "next" not in page:
                break
            url = f"/voices?limit=1&after={page['next']}"
        assert seen == ["ann", "nova", "nova-2", "nova2"]
        for wrong in ("limit=0", "limit=1001", "limit=x", "limit=", "after=" + "a" * 65):
            assert fields(problem(await client.get(f"/voices?{wrong}"), 422)) == [wrong.split("=")[0]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "session_id"),
        ({"session_id": "SESSION"}, "name"),
        ({"session_id": "SESSION", "name": "🎧"}, "name"),
        ({"session_id": "SESSION", "name": 5}, "name"),
        ({"session_id": "SESSION", "name": "Nova", "description": "d" * 501}, "description"),
        ({"session_id": "SESSION", "name": "Nova", "description": "\ud800"}, "description"),
        ({"session_id": "SESSION", "name": "\ud800"}, "name"),
        ({"session_id": "nonsense", "name": "Nova"}, "session_id"),
        ([], "body"),
        ("text", "body"),
    ],
)
async def test_a_voice_that_can_not_be_saved(body: Any, field: str) -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    if isinstance(body, dict) and body.get("session_id") == "SESSION":
        body = body | {"session_id": session_id}
    async with api(fakes) as client:
        answer = await client.post(
            "/voices", content=json.dumps(body), headers={"content-type": "application/json"}
        )
    assert field in fields(problem(answer, 422))
    assert fakes.voice_keys() == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"\x00", b"[" * 100_000])
async def test_json_that_is_none(content: bytes) -> None:
    async with api(FakeService()) as client:
        answer = await client.post("/voices", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}
    problem(answer, answer.status_code)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=b"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\nnonsense\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"response_text=%ff%fe", "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
        (b"x", "text/plain"),
        (b"x", ""),
    ],
)
@pytest.mark.parametrize("route", ["/preview", "/preview-from-voice", "/upload"])
async def test_forms_that_are_none(route: str, content: bytes, content_type: str) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        answer = await client.post(route, content=content, headers={"content-type": content_type})
    assert answer.status_code in {400, 422}
    problem(answer, answer.status_code)
    assert fakes.keys() == []


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    async with api(FakeService(Settings(reference_max_megabytes=1))) as client:
        for route, most in (
            ("/preview", "2 MB"),
            ("/upload", "2 MB"),
            ("/uploads", "112 KB"),
            ("/voices", "112 KB"),
        ):
            answer = await client.post(route, content=b"x", headers={"content-length": str(2 * 1024 * 1024 + 1)})
            assert f"at most {most}" in problem(answer, 413, "too_large")["error"]


@pytest.mark.parametrize(
    ("route", "content_type"),
    [
        ("/preview", "multipart/form-data; boundary=b"),
        ("/upload", "multipart/form-data; boundary=b"),
        ("/voices", "application/json"),
        ("/uploads", "application/json"),
    ],
)
async def test_a_body_that_turns_out_too_large_is_refused_where_it_does(route: str, content_type: str) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(100):
            sent += 1
            yield b"x" * 100_000

    fakes = FakeService(Settings(reference_max_megabytes=0.1))
    async with api(fakes) as client:
        answer = await client.post(route, content=body(), headers={"content-type": content_type})
    problem(answer, 413, "too_large")
    assert sent < 20
    assert fakes.keys() == []


async def test_a_recording_that_is_too_large_is_told_how_to_come_in() -> None:
    async with api(FakeService(Settings(reference_max_megabytes=0.01))) as client:
        answer = await client.post("/preview", data={"response_text": "Hi."}, files={"audio": ("a", WAV)})
    body = problem(answer, 413, "too_large")
    assert fields(body) == ["audio"]


async def test_an_upload_may_be_opened_with_and_without_a_body() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        bodies: list[dict[str, Any]] = [{}, {"json": {"transcription": "Said."}}, {"json": {}}]
        for kwargs in bodies:
            answer = await client.post("/uploads", **kwargs)
            assert answer.status_code == 201, answer.text
            ticket = answer.json()
            assert ticket["max_bytes"] == 25 * 1024 * 1024
            assert ticket["expires_at"] == "2026-01-01T12:00:00Z"
            assert ticket["url"]
            assert ticket["fields"]["key"].endswith("/upload")
        for wrong in ({"transcription": 5}, {"transcription": "a" * 4097}, {"transcription": "\ud800"}):
            content = json.dumps(wrong)
            answer = await client.post("/uploads", content=content, headers={"content-type": "application/json"})
            assert fields(problem(answer, 422)) == ["transcription"]


async def test_a_preview_is_served_until_it_expires() -> None:
    fakes = FakeService()
    request = await fakes.job()
    url = f"/previews/{request.job_id}.wav"
    async with api(fakes) as client:
        waiting = await client.get(url)
        problem(waiting, 404, "not_ready")
        assert waiting.headers["retry-after"] == "1"
        await fakes.succeed(request)
        served = await client.get(url)
        assert (served.status_code, served.content) == (200, b"RIFF")
        assert served.headers["content-type"] == "audio/wav"
        assert served.headers["expires"] == "Thu, 01 Jan 2026 00:20:00 GMT"
        assert served.headers["accept-ranges"] == "bytes"
        fakes.advance(minutes=20, milliseconds=-1)
        assert (await client.get(url)).status_code == 200
        fakes.advance(milliseconds=1)
        for headers in ({}, {"Range": "bytes=0-1"}, {"Range": "bytes=99-"}, {"If-None-Match": "*"}):
            problem(await client.get(url, headers=headers), 410, "expired")
        assert (await client.get(f"/jobs/{request.job_id}")).json()["status"] == "expired"
        assert "audio_url" not in (await client.get(f"/jobs/{request.job_id}")).json()
        await fakes.bucket.delete([layout.preview(request.job_id)])
        problem(await client.get(url), 410, "expired")
        fakes.advance(hours=24)
        problem(await client.get(url), 410, "expired")
        problem(await client.get(f"/jobs/{request.job_id}"), 404)


async def test_a_preview_that_never_was() -> None:
    fakes = FakeService()
    failed = await fakes.job()
    await fakes.fail(failed)
    async with api(fakes) as client:
        problem(await client.get(f"/previews/{failed.job_id}.wav"), 404, "not_found")
        for name in (fakes.resources.new_id(), "nonsense", "..%2F..", "0" * 32, "f" * 12 + "7fff8" + "f" * 15):
            answer = await client.get(f"/previews/{name}.wav")
            problem(answer, 404)
            assert "retry-after" not in answer.headers
        problem(await client.get("/previews/nonsense"), 404)


@pytest.mark.parametrize(
    ("headers", "status", "content", "range_"),
    [
        ({"Range": "bytes=0-1"}, 206, b"RI", "bytes 0-1/4"),
        ({"Range": "Bytes=1-"}, 206, b"IFF", "bytes 1-3/4"),
        ({"Range": "bytes=-3"}, 206, b"IFF", "bytes 1-3/4"),
        ({"Range": "bytes=-30"}, 206, b"RIFF", "bytes 0-3/4"),
        ({"Range": "bytes=2-99"}, 206, b"FF", "bytes 2-3/4"),
        ({"Range": "bytes=2-1"}, 200, b"RIFF", None),
        ({"Range": "bytes=a-b"}, 200, b"RIFF", None),
        ({"Range": "bytes=0-0,2-2"}, 200, b"RIFF", None),
        ({"Range": "seconds=0-1"}, 200, b"RIFF", None),
        ({"Range": "bytes=" + "9" * 100 + "-"}, 200, b"RIFF", None),
        ({"Range": "bytes=0-1", "If-Range": "ETAG"}, 206, b"RI", "bytes 0-1/4"),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200, b"RIFF", None),
        ({"Range": "bytes=0-1", "If-Range": "W/ETAG"}, 200, b"RIFF", None),
        ({"Range": "bytes=0-1", "If-Range": "Thu, 01 Jan 2026 00:00:00 GMT"}, 200, b"RIFF", None),
        ({"If-None-Match": "ETAG"}, 304, b"", None),
        ({"If-None-Match": 'W/"x", W/ETAG'}, 304, b"", None),
        ({"If-None-Match": "*"}, 304, b"", None),
        ({"If-None-Match": '"other"'}, 200, b"RIFF", None),
        ({"If-None-Match": "ETAG", "Range": "bytes=0-1"}, 304, b"", None),
    ],
)
async def test_parts_and_versions(headers: dict[str, str], status: int, content: bytes, range_: str | None) -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    url = f"/previews/{request.job_id}.wav"
    async with api(fakes) as client:
        etag = (await client.get(url)).headers["etag"]
        answer = await client.get(
            url, headers={name: value.replace("ETAG", etag) for name, value in headers.items()}
        )
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == range_
    assert answer.headers["etag"] == etag
    if status != 304:
        assert answer.headers["content-length"] == str(len(content))


async def test_a_range_outside_of_the_audio() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes) as client:
        answer = await client.get(f"/previews/{request.job_id}.wav", headers={"Range": "bytes=4-"})
    problem(answer, 416)
    assert answer.headers["content-range"] == "bytes */4"


THREE_BYTES = 3 / 1024 / 1024


def elsewhere(answer: httpx.Response, job_id: str, expires: str) -> None:
    """Assert that an answer sends the client to the storage for the audio, until it expires."""
    assert (answer.status_code, answer.content) == (303, b"")
    there = urlsplit(answer.headers["location"])
    assert there.path.endswith(layout.preview(job_id))
    signed = dict(parse_qsl(there.query))
    assert signed["type"] == "audio/wav"
    assert 'filename="preview.wav"' in signed["as"]
    assert parsedate_to_datetime(answer.headers["expires"]).isoformat() == expires
    assert signed["expires"] < expires
    assert answer.headers["cache-control"] == "private"


async def test_audio_that_no_answer_can_hold_is_redirected_to() -> None:
    fakes = FakeService(Settings(answer_max_megabytes=THREE_BYTES))
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await speaking(fakes, asyncio.create_task(client.post("/preview", data=form)))
        job_id = (await last_request(fakes)).job_id
        elsewhere(answer, job_id, "2026-01-01T00:20:00+00:00")
        assert answer.headers["x-job-id"] == job_id
        assert answer.headers["x-session-id"] == form["session_id"]
        assert answer.headers["content-location"] == f"/previews/{job_id}.wav"
        fakes.advance(minutes=19)
        elsewhere(await client.get(f"/previews/{job_id}.wav"), job_id, "2026-01-01T00:20:00+00:00")
        fakes.advance(seconds=59)
        problem(await client.get(f"/previews/{job_id}.wav"), 410, "expired")


async def test_audio_that_an_answer_just_holds_is_answered() -> None:
    fakes = FakeService(Settings(answer_max_megabytes=4 / 1024 / 1024))
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await speaking(fakes, asyncio.create_task(client.post("/preview", data=form)))
        assert (answer.status_code, answer.content) == (200, b"RIFF")
        again = await client.get(answer.headers["content-location"])
    assert (again.status_code, again.content) == (200, b"RIFF")
    assert "content-range" not in again.headers


@pytest.mark.parametrize(
    ("headers", "status", "content"),
    [
        ({"Range": "bytes=0-1"}, 206, b"RI"),
        ({"Range": "bytes=1-"}, 206, b"IFF"),
        ({"Range": "bytes=-3"}, 206, b"IFF"),
        ({"Range": "bytes=1-99"}, 206, b"IFF"),
        ({"Range": "bytes=0-"}, 303, b""),
        ({"Range": "bytes=0-3"}, 303, b""),
        ({"Range": "bytes=0-99"}, 303, b""),
        ({"Range": "bytes=-4"}, 303, b""),
        ({"Range": "bytes=-99"}, 303, b""),
        ({"Range": "bytes=2-1"}, 303, b""),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 303, b""),
        ({"Range": "bytes=4-"}, 416, None),
        ({"If-None-Match": "*"}, 304, b""),
        ({"If-None-Match": '"other"'}, 303, b""),
    ],
)
async def test_parts_of_audio_that_no_answer_can_hold(
    headers: dict[str, str], status: int, content: bytes | None
) -> None:
    fakes = FakeService(Settings(answer_max_megabytes=THREE_BYTES))
    request = await fakes.job()
    await fakes.succeed(request)
    url = f"/previews/{request.job_id}.wav"
    async with api(fakes) as client:
        answer = await client.get(url, headers=headers)
        head = await client.head(url, headers=headers)
    assert answer.status_code == status
    assert content is None or answer.content == content
    if "If-None-Match" not in headers:
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "4", b"")


async def test_a_recording_that_can_not_come_through_is_told_the_other_way() -> None:
    settings = Settings(request_max_megabytes=0.5, reference_max_megabytes=25)
    async with api(FakeService(settings)) as client:
        answer = await client.post("/preview", content=b"x", headers={"content-length": str(512 * 1024 + 1)})
        told = problem(answer, 413, "too_large")["error"]
        assert "at most 512 KB" in told
        assert "up to 25 MB" in told
        assert "POST /uploads" in told


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1"}, {"Range": "bytes=99-"}])
async def test_head_says_what_get_would_send(headers: dict[str, str]) -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    url = f"/previews/{request.job_id}.wav"
    async with api(fakes) as client:
        whole, head = await client.get(url), await client.head(url, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    ignored = {"x-correlation-id"}
    assert {n: v for n, v in head.headers.items() if n not in ignored} == {
        n: v for n, v in whole.headers.items() if n not in ignored
    }


async def test_health_names_what_it_does_not_reach() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        neighbours: list[tuple[FakeBucket | FakeQueue, str]] = [
            (fakes.bucket, "storage"),
            (fakes.voices, "voice storage"),
            (fakes.synthesis, "synthesis queue"),
        ]
        for neighbour, name in neighbours:
            fakes.advance(seconds=1)
            neighbour.switch.is_up = False
            answer = await client.get("/health")
            assert problem(answer, 503, "unavailable")["error"] == f"Can't reach: {name}."
            assert answer.headers["retry-after"]
            neighbour.switch.is_up = True


async def test_health_asks_at_most_once_a_second() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        for _ in range(3):
            answers = await asyncio.gather(*(client.get("/health") for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            fakes.advance(seconds=0.4)
    asked = [neighbour.switch.calls for neighbour in (fakes.bucket, fakes.voices, fakes.synthesis)]
    assert asked == [["ping"]] * 3


async def test_health_says_how_the_worker_is() -> None:
    port = free_port("127.0.0.1")
    fakes = FakeService(Settings(worker_health_url=f"http://127.0.0.1:{port}/health"))

    async def starting(_request: web.Request) -> web.Response:
        return web.json_response({"status": "starting"}, status=503)

    worker = web.Application()
    worker.router.add_get("/health", starting)
    runner = web.AppRunner(worker)
    await runner.setup()
    async with api(fakes) as client:
        assert (await client.get("/health")).json() == {"status": "ok", "worker": "unreachable"}
        await web.TCPSite(runner, "127.0.0.1", port).start()
        fakes.advance(seconds=1)
        answer = await client.get("/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "worker": "starting"})
    await runner.cleanup()


async def test_a_storage_that_goes_away_in_the_middle_is_503_and_nothing_is_half_accepted() -> None:
    for calls in range(6):
        fakes = FakeService(Settings(preview_wait_seconds=0))
        async with api(fakes) as client:
            fakes.fail_after(calls, Unavailable)
            form = {"transcription": "Said.", "response_text": "Hello."}
            answer = await client.post("/preview", data=form, files={"audio": ("a.wav", WAV)})
        fakes.recover()
        if answer.status_code == 202:
            assert calls >= 4
            assert fakes.synthesis.bodies
            continue
        body = problem(answer, 503, "unavailable")
        assert "simulated failure" not in body["error"]
        assert answer.headers["retry-after"] == "5"
        assert fakes.synthesis.bodies == []


async def test_a_queue_that_is_away_leaves_no_job_behind() -> None:
    fakes = FakeService()
    fakes.synthesis.switch.is_up = False
    async with api(fakes) as client:
        answer = await client.post("/preview", data={"response_text": "Hello."}, files={"audio": ("a.wav", WAV)})
    problem(answer, 503)
    assert fakes.keys(layout.JOBS) == []


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/voices"),
        ("GET", "/voices/nova"),
        ("DELETE", "/voices/nova"),
        ("POST", "/uploads"),
        ("GET", "/jobs/JOB"),
        ("GET", "/previews/JOB.wav"),
    ],
)
async def test_every_route_says_that_the_storage_is_away(method: str, url: str) -> None:
    fakes = FakeService()
    for bucket in (fakes.bucket, fakes.voices):
        bucket.switch.is_up = False
    async with api(fakes) as client:
        answer = await client.request(method, url.replace("JOB", fakes.resources.new_id()))
    problem(answer, 503, "unavailable")


async def test_what_nobody_thought_of_is_a_problem_too(caplog: pytest.LogCaptureFixture) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        fakes.fail_after(0, ZeroDivisionError)
        answer = await client.get("/voices", headers={"X-Correlation-Id": "corr-1"})
    body = problem(answer, 500, "internal_error")
    assert answer.headers["x-correlation-id"] == "corr-1"
    assert "simulated failure" not in body["error"]


async def test_a_wrong_method_is_told_every_right_one() -> None:
    async with api(FakeService()) as client:
        for url, methods in [
            ("/voices", "GET, HEAD, POST"),
            ("/voices/nova", "DELETE, GET, HEAD, PATCH"),
            ("/previews/x.wav", "GET, HEAD"),
        ]:
            assert (await client.put(url)).headers["allow"] == methods


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/health", 405),
        ("PUT", "/voices", 405),
        ("GET", "/preview", 405),
        ("GET", "/jobs/", 404),
        ("GET", "/jobs/nonsense", 404),
        ("GET", "/voices/%00", 404),
        ("GET", "/voices/" + "a" * 5000, 404),
    ],
)
async def test_routes_that_are_none(method: str, url: str, status: int) -> None:
    async with api(FakeService()) as client:
        answer = await client.request(method, url)
    assert len(problem(answer, status)["error"]) < 300
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(("given", "kept"), [("corr-1", True), ("a" * 129, False), ("a b", False), ("", False)])
async def test_the_correlation_id_goes_all_the_way(given: str, kept: bool) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await client.post("/preview", data=form, headers=ASYNC | {"X-Correlation-Id": given})
    used = answer.headers["x-correlation-id"]
    assert (used == given) is kept
    assert (await last_request(fakes)).correlation_id == used


async def test_the_description_can_be_read() -> None:
    async with api(FakeService()) as client:
        docs = await client.get("/docs")
        assert docs.status_code == 200
        assert docs.headers["content-type"].startswith("text/html")
        scripts = re.findall(r'<script src="([^"]+)"></script>', docs.text)
        assert "/openapi.json" in "".join(
            [(await client.get(script)).raise_for_status().text for script in scripts]
        )
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")


async def test_another_voice_is_another_voice() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        ids = [
            (await client.post("/upload", files={"audio": ("a", voice_wav(pitch))})).json()["session_id"]
            for pitch in (110.0, 220.0)
        ]
    low, high = (fakes.bucket.objects[layout.session(id_).audio].body for id_ in ids)
    assert low != high


async def test_a_link_needs_no_key_and_ends_with_the_preview() -> None:
    fakes = FakeService()
    request = await fakes.job()
    async with api(fakes) as client:
        assert "signed_url" not in (await client.get(f"/jobs/{request.job_id}?signed=1")).json()
        outcome = await fakes.succeed(request)
        assert outcome.preview is not None
        redirected = await client.get(f"/previews/{request.job_id}.wav?signed=1")
        assert redirected.status_code == 303
        told = (await client.get(f"/jobs/{request.job_id}?signed=1")).json()
        assert "signed_url" not in (await client.get(f"/jobs/{request.job_id}")).json()
        for link in (redirected.headers["location"], told["signed_url"]):
            assert link.startswith(f"http://fake/{layout.preview(request.job_id)}?")
            (expires,) = parse_qs(urlsplit(link).query)["expires"]
            assert fakes.time() < datetime.fromisoformat(expires) < outcome.preview.expires_at
        fakes.advance(minutes=20)
        problem(await client.get(f"/previews/{request.job_id}.wav?signed=1"), 410, "expired")
        assert "signed_url" not in (await client.get(f"/jobs/{request.job_id}?signed=1")).json()


@pytest.mark.parametrize(
    "path",
    [
        "/voices",
        "/voices/nova",
        "/jobs/JOB",
        "/previews/JOB.wav",
        "/health",
        "/docs",
        "/docs/start.js",
        "/openapi.json",
    ],
)
async def test_head_answers_as_get_does_without_the_body(path: str) -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes) as client:
        url = path.replace("JOB", request.job_id)
        got, head = await client.get(url), await client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    varying = {"x-correlation-id"}
    assert {n: v for n, v in head.headers.items() if n not in varying} == {
        n: v for n, v in got.headers.items() if n not in varying
    }


async def test_head_of_what_is_not_there_has_no_body_either() -> None:
    async with api(FakeService()) as client:
        answer = await client.head("/voices/nobody")
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("/preview", {"audio": "not a file", "response_text": "Hello."}, "audio should be a file."),
        ("/preview", {"session_id": "x"}, "response_text is required."),
        ("/voices?limit=many", None, "limit should be a whole number."),
        ("/voices?limit=0", None, "limit should be greater than or equal to 1."),
        ("/jobs/x?signed=perhaps", None, "signed should be true or false."),
    ],
)
async def test_what_is_wrong_is_said_in_plain_words(path: str, form: dict[str, str] | None, message: str) -> None:
    async with api(FakeService()) as client:
        answer = await (client.get(path) if form is None else client.post(path, data=form))
    assert problem(answer, 422, "invalid_input")["error"] == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "body should be a JSON object."),
        ({"session_id": 1, "name": "Nova"}, "session_id should be a string."),
        ({"session_id": "x", "name": None}, "name should be a string."),
    ],
)
async def test_what_is_wrong_in_json_is_said_in_plain_words(body: object, message: str) -> None:
    async with api(FakeService()) as client:
        answer = await client.post("/voices", json=body)
    assert problem(answer, 422, "invalid_input")["error"] == message


async def test_a_body_of_another_type_is_told_the_right_one() -> None:
    async with api(FakeService()) as client:
        as_json = await client.post("/preview", json={"response_text": "Hello."})
        as_text = await client.post("/voices", content='{"name": "Nova"}', headers={"Content-Type": "text/plain"})
    assert "multipart/form-data" in problem(as_json, 400, "bad_request")["error"]
    assert "JSON object" in problem(as_text, 422, "invalid_input")["error"]
