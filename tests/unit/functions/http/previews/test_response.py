"""The response to a request for a preview."""

import asyncio

import pytest

from pipeline.contract import layout
from pipeline.contract.records import Options
from pipeline.domain import voice_changes
from pipeline.errors import SynthesisFailed, Unavailable
from pipeline.settings import Settings
from tests.support.api import RESPOND_ASYNC, WAV, api, complete_job, fields, last_request, problem
from tests.support.fake_service import FakeService
from tests.support.fakes.switch import Switch


async def test_preview_from_recording() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"transcription": " What I say. ", "response_text": "Hello.", "language": "english", "seed": "7"}
        calling = asyncio.ensure_future(client.post("/preview", data=form, files={"audio": ("a.wav", WAV)}))
        answer = await complete_job(fakes, calling)
    request = await last_request(fakes)
    assert (answer.status_code, answer.content) == (200, b"RIFF")
    assert answer.headers["content-type"] == "audio/wav"
    assert 'filename="preview.wav"' in answer.headers["content-disposition"]
    assert answer.headers["x-job-id"] == request.job_id
    assert answer.headers["x-session-id"] == request.source.session_id
    assert answer.headers["content-location"] == f"/previews/{request.job_id}.wav"
    assert answer.headers["expires"] == "Thu, 01 Jan 2026 00:20:00 GMT"
    assert answer.headers["x-finish-reason"] == "stop"
    keys = layout.session(answer.headers["x-session-id"])
    assert fakes.bucket.objects[keys.transcription].body == b"What I say."
    assert fakes.bucket.objects[keys.audio].body.startswith(b"RIFF")
    assert (request.text, request.options) == ("Hello.", Options(language="English", seed=7))
    assert request.new_reference is not None


async def test_preview_from_saved_voice() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    async with api(fakes) as client:
        form = {"voice_id": "nova", "response_text": "Hello."}
        calling = asyncio.ensure_future(client.post("/preview-from-voice", data=form))
        answer = await complete_job(fakes, calling)
    assert answer.status_code == 200
    assert "x-session-id" not in answer.headers
    assert (await last_request(fakes)).source.voice_id == "nova"


async def test_failed_job_returns_problem() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        form = {"session_id": session_id, "response_text": "Hello."}
        calling = asyncio.ensure_future(client.post("/preview", data=form))
        answer = await complete_job(fakes, calling, SynthesisFailed("It could not be."))
    body = problem(answer, 502, "synthesis_failed")
    assert body["error"] == "It could not be."
    assert body["job_id"] == answer.headers["x-job-id"]


async def test_storage_outage_names_job() -> None:
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


class NoReads(Switch):
    """Finds objects, and does not give them out."""

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        if call == "read":
            raise Unavailable("no answer in time")


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("respond-async", "respond-async"), ("wait=0", "wait=0"), ("respond-async, wait=0", "respond-async, wait=0")],
)
async def test_respond_async_returns_job(prefer: str, applied: str) -> None:
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
            "finish_reason": "stop",
            "expires_at": "2026-01-01T00:20:00Z",
            "session_id": session_id,
            "audio_url": f"/previews/{job_id}.wav",
            "duration_seconds": 1.25,
            "sample_rate": 24_000,
            "timings": {"queued_seconds": 0, "synthesis_seconds": 0.5, "real_time_factor": 0.4},
            "marks": ["watermark"],
        }
    assert (await last_request(fakes)).subscriber is None


async def test_retry_after_follows_queue() -> None:
    fakes = FakeService(Settings(worker_batch_size=2))
    for _ in range(4):
        await fakes.job()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await client.post("/preview", data=form, headers=RESPOND_ASYNC)
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


async def test_preview_beyond_limit_of_waiting_jobs() -> None:
    fakes = FakeService(Settings(jobs_waiting=2))
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        for _ in range(2):
            assert (await client.post("/preview", data=form, headers=RESPOND_ASYNC)).status_code == 202
            fakes.advance(seconds=5)
        refused = await client.post("/preview", data=form, headers=RESPOND_ASYNC)
        assert problem(refused, 503, "unavailable")["error"] == "Too many jobs wait. Try again later."
        assert refused.headers["retry-after"] == "30"
        assert len(fakes.keys(layout.JOBS)) == 2
        await fakes.synthesis.delete([one.receipt for one in await fakes.synthesis.receive(1, wait_seconds=0)])
        fakes.advance(seconds=5)
        assert (await client.post("/preview", data=form, headers=RESPOND_ASYNC)).status_code == 202


async def test_fast_preview_reads_no_queue_depth() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await complete_job(fakes, asyncio.create_task(client.post("/preview", data=form)))
    assert answer.status_code == 200
    assert fakes.synthesis.switch.calls == ["send"]


async def test_slow_preview_returns_job() -> None:
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
async def test_preview_invalid_field(form: dict[str, str], files: dict[str, bytes], field: str) -> None:
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
async def test_preview_from_voice_invalid_field(form: dict[str, str], status: int, field: str) -> None:
    async with api(FakeService()) as client:
        assert fields(problem(await client.post("/preview-from-voice", data=form), status)) == [field]


async def test_storage_outage_accepts_no_job() -> None:
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


async def test_queue_outage_stores_no_job() -> None:
    fakes = FakeService()
    fakes.synthesis.switch.is_up = False
    async with api(fakes) as client:
        answer = await client.post("/preview", data={"response_text": "Hello."}, files={"audio": ("a.wav", WAV)})
    problem(answer, 503)
    assert fakes.keys(layout.JOBS) == []
