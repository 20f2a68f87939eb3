"""Requests with an `Idempotency-Key`."""

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from pipeline.audio.reference_audio import encode_wav
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Request
from pipeline.domain import jobs
from pipeline.errors import NotFound, SynthesisFailed, Unavailable
from tests.support.api import api, fields, problem
from tests.support.fake_service import Crash, FakeService, reference_recording
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.queue import FakeQueue

WAV = encode_wav(reference_recording())
ASYNC = {"Prefer": "respond-async"}
KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}


async def requests_of(fakes: FakeService) -> list[Request]:
    tickets = [parse_queue_message(body) for body in fakes.synthesis.bodies]
    found = [await jobs.read_request(fakes.resources, ticket.job_id) for ticket in tickets if ticket]
    return [request for request in found if request]


def preview(client: httpx.AsyncClient, headers: dict[str, str] = KEY, **form: str) -> Any:
    return client.post("/preview", data={"response_text": "Hello."} | form, files={"audio": WAV}, headers=headers)


async def spoken_preview(fakes: FakeService, client: httpx.AsyncClient, **form: str) -> httpx.Response:
    """Send a request and play the worker."""
    calling = asyncio.ensure_future(preview(client, KEY, **form))
    while not fakes.synthesis.bodies and not calling.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    await fakes.succeed((await requests_of(fakes))[-1])
    answer: httpx.Response = await calling
    return answer


async def test_repeated_preview_returns_same_audio() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        first = await spoken_preview(fakes, client)
        again = await preview(client)  # httpx has another multipart boundary for each request
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    same = ("x-job-id", "x-session-id", "content-location", "content-type", "expires")
    assert {name: again.headers[name] for name in same} == {name: first.headers[name] for name in same}
    assert len(fakes.synthesis.bodies) == 1
    assert len(fakes.keys(layout.UPLOADS)) == 1


async def test_quoted_key_equals_plain_key() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        first = await preview(client, ASYNC | KEY)
        again = await preview(client, ASYNC | {"Idempotency-Key": f'"{KEY["Idempotency-Key"]}"'})
    assert again.headers["location"] == first.headers["location"]
    assert len(fakes.synthesis.bodies) == 1


async def test_repeated_202_names_same_job() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        first = await preview(client, ASYNC | KEY)
        await fakes.succeed((await requests_of(fakes))[0])
        again = await preview(client, ASYNC | KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["location"] == first.headers["location"]
    assert (first.json()["status"], again.json()["status"]) == ("queued", "succeeded")
    assert len(fakes.synthesis.bodies) == 1


async def test_repeated_request_waits_for_job() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        first = await preview(client, ASYNC | KEY)
        joining = asyncio.ensure_future(preview(client, KEY | {"Prefer": "wait=5"}))
        await asyncio.sleep(0)
        await fakes.succeed((await requests_of(fakes))[0])
        joined = await joining
    assert (joined.status_code, joined.content) == (200, b"RIFF")
    assert joined.headers["x-job-id"] == first.headers["x-job-id"]


async def test_repeated_request_returns_failure() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        await preview(client, ASYNC | KEY)
        request = (await requests_of(fakes))[0]
        failed = jobs.failure(request, SynthesisFailed("It was not to be."), fakes.time())
        await jobs.write_outcome(fakes.resources, failed)
        body = problem(await preview(client), 502, "synthesis_failed")
    assert body["job_id"] == request.job_id
    assert len(fakes.synthesis.bodies) == 1


async def test_repeated_request_after_expiry() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        await spoken_preview(fakes, client)
        fakes.advance(minutes=21)
        problem(await preview(client), 410, "expired")
    assert len(fakes.synthesis.bodies) == 1


@pytest.mark.parametrize("changed", [{"response_text": "Goodbye."}, {"seed": "7"}, {"transcription": "x"}])
async def test_key_reused_for_other_request(changed: dict[str, str]) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        await preview(client, ASYNC | KEY)
        body = problem(await preview(client, ASYNC | KEY, **changed), 422, "idempotency_key_reused")
        elsewhere = await client.post(
            "/preview-from-voice", data={"voice_id": "v", "response_text": "x"}, headers=KEY
        )
        problem(elsewhere, 422, "idempotency_key_reused")
    assert fields(body) == ["Idempotency-Key"]
    assert len(fakes.synthesis.bodies) == 1


async def test_key_reused_for_other_recording() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        await preview(client, ASYNC | KEY)
        files = {"audio": encode_wav(reference_recording())[:-2] + b"\1\1"}
        form = {"response_text": "Hello."}
        answer = await client.post("/preview", data=form, files=files, headers=ASYNC | KEY)
        problem(answer, 422, "idempotency_key_reused")


async def test_key_in_progress() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        calling = asyncio.ensure_future(preview(client))
        while not fakes.synthesis.bodies:  # noqa: ASYNC110
            await asyncio.sleep(0)
        refused = await preview(client)
        body = problem(refused, 409, "request_in_progress")
        assert int(refused.headers["retry-after"]) > 0
        assert fields(body) == ["Idempotency-Key"]
        await fakes.succeed((await requests_of(fakes))[0])
        assert (await calling).status_code == 200
    assert len(fakes.synthesis.bodies) == 1


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/preview", {"response_text": " "}, 422),
        ("/preview-from-voice", {"voice_id": "x", "response_text": "x"}, 404),
    ],
)
async def test_failed_request_releases_key(path: str, form: dict[str, str], status: int) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        assert (await client.post(path, data=form, headers=KEY)).status_code == status
        assert fakes.keys(layout.IDEMPOTENCY) == []
        assert (await preview(client, ASYNC | KEY)).status_code == 202


async def test_outage_releases_key() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        fakes.synthesis.switch.is_up = False
        problem(await preview(client, ASYNC | KEY), 503, "unavailable")
        fakes.synthesis.switch.is_up = True
        assert (await preview(client, ASYNC | KEY)).status_code == 202
    assert len(fakes.synthesis.bodies) == 1


class PartlyFailingBucket(FakeBucket):
    """Can't write objects whose keys contain a text, until it is empty."""

    failing = ""

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        if self.failing and self.failing in key:
            raise Unavailable("The storage does not respond.")
        await super().put(key, body, content_type)


@pytest.mark.parametrize(
    ("failing", "is_same_job"),
    [(layout.DERIVED, True), ("transcription", True), ("source.wav", False), ("request.json", False)],
)
async def test_repeat_after_failed_write(failing: str, is_same_job: bool) -> None:
    """A worker may have received a stored request, from a queue that was refilled meanwhile."""
    fakes = FakeService()
    fakes.bucket = bucket = PartlyFailingBucket(fakes.time)
    bucket.failing = failing
    fakes.resources = replace(fakes.resources, bucket=fakes.bucket)
    async with api(fakes) as client:
        problem(await preview(client, ASYNC | KEY, transcription="What I say."), 503, "unavailable")
        stored = [layout.id_in(key, layout.JOBS) for key in fakes.keys(layout.JOBS)]
        bucket.failing = ""
        answer = await preview(client, ASYNC | KEY, transcription="What I say.")
    assert answer.status_code == 202
    assert (stored == [answer.headers["x-job-id"]]) == is_same_job
    (request,) = await requests_of(fakes)
    keys = layout.session(request.source.session_id or "")
    assert fakes.bucket.objects[keys.transcription].body == b"What I say."
    assert keys.audio in fakes.bucket.objects
    assert layout.derived_job(request.reference_id, request.job_id) in fakes.keys(layout.DERIVED)


class QueueWithoutResponses(FakeQueue):
    """Receives each message, but its responses are lost until `responds` is set."""

    responds = False

    async def send(self, body: str, *, group: str | None = None) -> None:
        await super().send(body, group=group)
        if not self.responds:
            raise Unavailable("The queue does not respond.")


async def test_repeat_after_lost_response_of_queue_has_same_job() -> None:
    fakes = FakeService()
    queue = QueueWithoutResponses(fakes.time)
    fakes.resources = replace(fakes.resources, synthesis=queue)
    async with api(fakes) as client:
        problem(await preview(client, ASYNC | KEY), 503, "unavailable")
        queue.responds = True
        answer = await preview(client, ASYNC | KEY)
    assert answer.status_code == 202
    sent = [parse_queue_message(body) for body in queue.bodies]
    assert [message.job_id for message in sent if message] == 2 * [answer.headers["x-job-id"]]


async def test_repeated_voice_returns_stored_response() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        voice = {"session_id": session_id, "name": "Morgan"}
        first = await client.post("/voices", json=voice, headers=KEY)
        again = await client.post("/voices", json=voice, headers=KEY)
        problem(await client.post("/voices", json=voice), 409, "name_taken")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"] == "/voices/morgan"
    assert again.headers["content-type"] == first.headers["content-type"]


@pytest.mark.parametrize("path", ["/uploads", "/upload"])
async def test_repeated_upload_returns_stored_response(path: str) -> None:
    fakes = FakeService()
    more: dict[str, Any] = {"files": {"audio": WAV}} if path == "/upload" else {}
    async with api(fakes) as client:
        first = await client.post(path, headers=KEY, **more)
        again = await client.post(path, headers=KEY, **more)
        other = await client.post(path, headers={"Idempotency-Key": "other"}, **more)
    assert first.is_success
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert other.json()["session_id"] != first.json()["session_id"]


@pytest.mark.parametrize("key", ["", '"', 'a"b', "a\\b", "é", "x" * 256])
async def test_key_invalid(key: str) -> None:
    async with api(FakeService()) as client:
        answer = await client.post("/uploads", headers=[(b"Idempotency-Key", key.encode())])
        body = problem(answer, 422, "invalid_input")
    assert fields(body) == ["Idempotency-Key"]


async def test_key_header_repeated() -> None:
    async with api(FakeService()) as client:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        problem(await client.post("/uploads", headers=headers), 400, "bad_request")


async def test_malformed_body_releases_key() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        headers = KEY | {"content-type": "multipart/form-data; boundary=x"}
        problem(await client.post("/preview", content=b"--x\r\n", headers=headers), 400)
    assert fakes.keys(layout.IDEMPOTENCY) == []


async def crashed_preview(fakes: FakeService, calls: int) -> None:
    """Let the process die after so many calls of the storage and the queue."""
    fakes.fail_after(calls)
    async with api(fakes) as client:
        with pytest.raises(Crash):
            await preview(client, ASYNC | KEY)
    fakes.recover()


@pytest.mark.parametrize("calls", range(2, 8))
async def test_dead_process_claim_taken_over(calls: int) -> None:
    fakes = FakeService()
    await crashed_preview(fakes, calls)
    fakes.advance(minutes=1)
    async with api(fakes) as client:
        answer = await preview(client, ASYNC | KEY)
    assert answer.status_code == 202
    (request,) = {request.job_id: request for request in await requests_of(fakes)}.values()
    assert request.job_id == answer.headers["x-job-id"]
    assert layout.session(request.source.session_id or "").audio in fakes.bucket.objects


async def test_job_that_ended_without_recording_is_replaced() -> None:
    """A restart of the queue sends the message of a job whose process died before it stored the recording."""
    fakes = FakeService()
    await crashed_preview(fakes, 4)
    (key,) = [key for key in fakes.keys(layout.JOBS) if key.endswith("/request.json")]
    assert fakes.keys(layout.UPLOADS) == []
    incomplete = await jobs.read_request(fakes.resources, layout.id_in(key, layout.JOBS))
    assert incomplete is not None
    await jobs.write_outcome(fakes.resources, jobs.failure(incomplete, NotFound("No recording."), fakes.time()))
    fakes.advance(minutes=1)
    async with api(fakes) as client:
        answer = await preview(client, ASYNC | KEY)
    assert answer.status_code == 202
    assert answer.headers["x-job-id"] != incomplete.job_id


async def test_dead_process_save_is_repeated() -> None:
    calls, is_whole = 1, False
    while not is_whole:
        fakes = FakeService()
        body = {"session_id": await fakes.session(), "name": "Morgan"}
        fakes.fail_after(calls)
        async with api(fakes) as client:
            with contextlib.suppress(Crash):
                is_whole = (await client.post("/voices", json=body, headers=KEY)).status_code == 201
            fakes.recover()
            fakes.advance(minutes=1)
            answer = await client.post("/voices", json=body, headers=KEY)
            problem(await client.post("/voices", json=body), 409, "name_taken")
        assert answer.status_code == 201, (calls, answer.text)
        calls += 1
    assert calls > 10


class BucketWithoutResponse(FakeBucket):
    """Replaces an object, but its first response is lost."""

    has_responded = False

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        replaced = await super().replace(key, body, content_type, etag=etag)
        if not self.has_responded:
            self.has_responded = True
            raise Unavailable("The storage does not respond.")
        return replaced


async def test_save_with_lost_response_is_repeated() -> None:
    fakes = FakeService()
    fakes.voices = BucketWithoutResponse(fakes.time)
    fakes.resources = replace(fakes.resources, voices=fakes.voices)
    body = {"session_id": await fakes.session(), "name": "Morgan"}
    async with api(fakes) as client:
        problem(await client.post("/voices", json=body, headers=KEY), 503, "unavailable")
        assert (await client.post("/voices", json=body, headers=KEY)).status_code == 201
        problem(await client.post("/voices", json=body), 409, "name_taken")


async def test_dead_process_claim_expires() -> None:
    fakes = FakeService()
    await crashed_preview(fakes, 4)
    async with api(fakes) as client:
        problem(await preview(client, ASYNC | KEY), 409, "request_in_progress")
        fakes.advance(seconds=59)
        assert (await preview(client, ASYNC | KEY)).status_code == 202


async def test_concurrent_requests_create_one_job() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        answers = await asyncio.gather(*(preview(client, ASYNC | KEY) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len(fakes.synthesis.bodies) == 1


async def test_stored_claim_has_no_key_or_text() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        await preview(client, ASYNC | KEY)
    (name,) = fakes.keys(layout.IDEMPOTENCY)
    stored = fakes.bucket.objects[name].body.decode()
    assert "Hello" not in stored
    assert KEY["Idempotency-Key"] not in name + stored
    assert len(json.loads(stored)) < 10
