"""The HTTP API over real sockets, with S3 and SQS over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from functions.local.server import local_app
from gpu_runner.engines.mock import MockEngine
from pipeline.audio.reference_audio import encode_wav
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.settings import Settings
from tests.support.http_server import (
    FAILING_TEXT,
    PREVIEW_WAV,
    override,
    process_queued,
    run_server,
    run_simple_worker,
)
from tests.support.openai_service import service
from tests.support.speech import voice, voice_wav
from tests.support.waiting import eventually

FORM = {"transcription": "What I say.", "response_text": "Hello."}
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def reference() -> bytes:
    return voice_wav(120.0)


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with run_server(local_app(settings)) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
async def client(resources: Resources) -> AsyncIterator[httpx.AsyncClient]:
    async with api(resources.settings) as client:
        yield client


async def test_voice_lifecycle(client: httpx.AsyncClient, resources: Resources, reference: bytes) -> None:
    async with run_simple_worker(resources):
        preview = await client.post("/preview", data=FORM, files={"audio": ("a.wav", reference)})
        assert (preview.status_code, preview.content) == (200, PREVIEW_WAV)
        assert preview.headers["content-type"] == "audio/wav"
        again = await client.get(preview.headers["content-location"])
        assert again.content == PREVIEW_WAV
        part = await client.get(preview.headers["content-location"], headers={"Range": "bytes=4-9"})
        assert (part.status_code, part.content) == (206, PREVIEW_WAV[4:10])
        assert part.headers["content-range"] == f"bytes 4-9/{len(PREVIEW_WAV)}"
        same = await client.get(
            preview.headers["content-location"], headers={"Range": "bytes=4-9", "If-Range": part.headers["etag"]}
        )
        assert same.status_code == 206
        other = await client.get(
            preview.headers["content-location"], headers={"Range": "bytes=4-9", "If-Range": '"other"'}
        )
        assert (other.status_code, other.content) == (200, PREVIEW_WAV)
        known = await client.get(
            preview.headers["content-location"], headers={"If-None-Match": again.headers["etag"]}
        )
        assert (known.status_code, known.content) == (304, b"")
        past = await client.get(preview.headers["content-location"], headers={"Range": "bytes=999999-"})
        assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(PREVIEW_WAV)}")
        head = await client.head(preview.headers["content-location"])
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(PREVIEW_WAV)), b"")
        body = {"session_id": preview.headers["x-session-id"], "name": "小明"}
        saved = await client.post("/voices", json=body)
        assert (saved.status_code, saved.json()["voice_id"]) == (201, "xiao-ming")
        assert (await client.post("/voices", json=body)).status_code == 409
        form = {"voice_id": "xiao-ming", "response_text": "Again."}
        assert (await client.post("/preview-from-voice", data=form)).content == PREVIEW_WAV
        assert [v["voice_id"] for v in (await client.get("/voices")).json()["voices"]] == ["xiao-ming"]
        assert (await client.delete("/voices/xiao-ming")).status_code == 204
        assert (await client.get("/voices/xiao-ming")).status_code == 404
    left = [item.key async for item in resources.voices.list("")]
    assert [key for key in left if not key.startswith(layout.REVOCATIONS)] == []


async def test_failed_preview_returns_problem(
    client: httpx.AsyncClient, resources: Resources, reference: bytes
) -> None:
    async with run_simple_worker(resources):
        answer = await client.post(
            "/preview", data=FORM | {"response_text": FAILING_TEXT}, files={"audio": ("a", reference)}
        )
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error"] == "It can't be said."


async def test_voices_sorted_by_id(client: httpx.AsyncClient, reference: bytes) -> None:
    session_id = (await client.post("/upload", files={"audio": ("a", reference)})).json()["session_id"]
    for name in ("Nova", "Nova 2", "Nova2", "Nova 2 b"):
        saved = await client.post("/voices", json={"session_id": session_id, "name": name})
        assert saved.status_code == 201
    seen, after = [], ""
    while True:
        page = (await client.get("/voices", params={"limit": 1, "after": after})).json()
        seen += [voice["voice_id"] for voice in page["voices"]]
        if "next" not in page:
            break
        after = page["next"]
    assert seen == ["nova", "nova-2", "nova-2-b", "nova2"]


async def test_job_continues_after_client_timeout(
    client: httpx.AsyncClient, resources: Resources, reference: bytes
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/preview", data=FORM, files={"audio": ("a", reference)}, timeout=0.5)
    (job_id,) = await eventually(lambda: process_queued(resources))
    answer = await client.get(f"/jobs/{job_id}")
    assert answer.json()["status"] == "succeeded"
    assert (await client.get(answer.json()["audio_url"])).content == PREVIEW_WAV


async def test_job_continues_after_disconnect(
    client: httpx.AsyncClient, resources: Resources, reference: bytes
) -> None:
    address = urlsplit(str(client.base_url))
    request = client.build_request("POST", "/preview", data=FORM, files={"audio": ("a", reference)})
    head = f"POST /preview HTTP/1.1\r\nHost: localhost\r\nContent-Length: {request.headers['content-length']}\r\n"
    head += f"Content-Type: {request.headers['content-type']}\r\n\r\n"
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode() + await request.aread())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    (job_id,) = await eventually(lambda: process_queued(resources))
    assert (await client.get(f"/jobs/{job_id}")).json()["status"] == "succeeded"


async def test_prefer_wait_is_applied(client: httpx.AsyncClient, resources: Resources) -> None:
    session_id = await _upload(client)
    form = {"session_id": session_id, "response_text": "Hello."}
    began = time.monotonic()
    answer = await client.post("/preview", data=form, headers={"Prefer": "wait=1"})
    assert 0.9 < time.monotonic() - began < 15
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    await process_queued(resources)
    assert (await client.get(answer.headers["location"])).json()["status"] == "succeeded"


async def _upload(client: httpx.AsyncClient) -> str:
    answer = await client.post("/upload", files={"audio": ("a", voice_wav(120.0))})
    session_id: str = answer.json()["session_id"]
    return session_id


async def test_direct_upload_validated_on_use(
    client: httpx.AsyncClient, resources: Resources, reference: bytes
) -> None:
    ticket = (await client.post("/uploads", json={"transcription": "What I say."})).json()
    form = {"session_id": ticket["session_id"], "response_text": "Hello."}
    assert (await client.post("/preview", data=form, headers=ASYNC)).status_code == 404
    async with httpx.AsyncClient() as storage:
        nonsense = await storage.post(ticket["url"], data=ticket["fields"], files={"file": ("a", b"nonsense")})
        assert nonsense.status_code == 204
        refused = await client.post("/preview", data=form, headers=ASYNC)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_audio")
        await storage.post(ticket["url"], data=ticket["fields"], files={"file": ("a", reference)})
    async with run_simple_worker(resources):
        assert (await client.post("/preview", data=form)).content == PREVIEW_WAV
    saved = await client.post("/voices", json={"session_id": ticket["session_id"], "name": "Nova"})
    keys = layout.voice_reference(None, "nova", ticket["session_id"])
    assert saved.json()["transcription_file"] == keys.transcription


async def test_body_content_length_too_large(client: httpx.AsyncClient) -> None:
    address = urlsplit(str(client.base_url))
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"POST /preview HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n")
    async with asyncio.timeout(15):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_body_chunked_too_large(resources: Resources) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(13):
            yield b"x" * 100_000

    small = override(resources.settings, reference_max_megabytes=0.1)
    async with api(small) as client:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = await client.post("/preview", content=body(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert (await client.get("/health")).status_code == 200


async def test_concurrent_previews_have_own_jobs(
    client: httpx.AsyncClient, resources: Resources, reference: bytes
) -> None:
    async with run_simple_worker(resources):
        answers = await asyncio.gather(
            *(client.post("/preview", data=FORM, files={"audio": ("a", reference)}) for _ in range(8))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["x-job-id"] for answer in answers}) == 8


async def test_expired_preview_and_upload_return_410(
    client: httpx.AsyncClient, resources: Resources, reference: bytes
) -> None:
    async with run_simple_worker(resources):
        preview = await client.post("/preview", data=FORM, files={"audio": ("a", reference)})
    shorter = override(resources.settings, preview_retention_minutes=1e-6, upload_retention_hours=1e-9)
    async with api(shorter) as later:
        gone = await later.get(preview.headers["content-location"])
        assert (gone.status_code, gone.json()["code"]) == (410, "expired")
        form = {"session_id": preview.headers["x-session-id"], "response_text": "Hello."}
        assert (await later.post("/preview", data=form)).status_code == 410


@pytest.fixture
def unreachable(settings: Settings) -> Settings:
    return override(settings, aws_endpoint_url="http://127.0.0.1:9")


async def test_unreachable_storage_returns_503(unreachable: Settings, reference: bytes) -> None:
    async with api(unreachable) as client:
        health, preview, voices = await asyncio.gather(
            client.get("/health"),
            client.post("/preview", data=FORM, files={"audio": ("a", reference)}),
            client.get("/voices"),
        )
    assert health.status_code == preview.status_code == voices.status_code == 503
    assert health.json()["error"] == "Can't reach: storage, voice storage, synthesis queue."
    for answer in (health, preview, voices):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"]
        assert "127.0.0.1" not in answer.text


async def test_health_names_missing_resources(resources: Resources) -> None:
    other = override(resources.settings, voices_bucket="not-there", synthesis_queue="not-there")
    async with api(other) as client:
        answer = await client.get("/health")
    assert answer.json()["error"] == "Can't reach: voice storage, synthesis queue."


async def test_preview_missing_queue_stores_nothing(
    client: httpx.AsyncClient, resources: Resources, reference: bytes
) -> None:
    queueless = override(resources.settings, synthesis_queue="not-there")
    async with api(queueless) as broken:
        answer = await broken.post("/preview", data=FORM, files={"audio": ("a", reference)})
    assert (answer.status_code, answer.json()["code"]) == (500, "misconfigured")
    assert [item.key async for item in resources.bucket.list(layout.JOBS)] == []


async def test_flac_stored_as_mono_wav(client: httpx.AsyncClient, resources: Resources) -> None:
    session_id = await _upload(client)
    stored = await resources.bucket.get(layout.session(session_id).audio)
    assert stored is not None
    assert stored[:4] == b"RIFF"
    assert len(stored) == len(encode_wav(voice(120.0)))


async def test_links_use_api_for_loopback_storage(resources: Resources, reference: bytes) -> None:
    settings = override(resources.settings, host="0.0.0.0", auth="none")
    async with api(settings) as client, run_simple_worker(resources):
        form = (await client.post("/uploads")).json()
        assert form["url"].startswith(str(client.base_url))
        assert (await client.post(form["url"], files={"file": ("a.wav", reference)})).status_code == 204
        speak = FORM | {"session_id": form["session_id"]}
        preview = await client.post("/preview", data=speak)
        link = (await client.get(f"/jobs/{preview.headers['x-job-id']}?signed=1")).json()["signed_url"]
        assert link.startswith(str(client.base_url))
        assert (await client.get(link)).content == PREVIEW_WAV


@pytest.mark.slow
async def test_closed_streams_free_worker(resources: Resources) -> None:
    engine = MockEngine(capacity=2, speed=1)
    async with service(resources, engine) as running, httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        form = {"response_text": "This sentence is repeated for about a minute. " * 50}
        jobs_ = []
        for _ in range(engine.capacity):
            files = {"audio": ("a.wav", voice_wav(150.0))}
            async with client.stream("POST", "/preview?stream=1", data=form, files=files) as answer:
                await anext(answer.aiter_raw())
                jobs_.append(answer.headers["x-job-id"])
        third = await client.post(
            "/preview", data={"response_text": "Hello."}, files={"audio": ("a.wav", voice_wav(150.0))}
        )
        # Without the cancellation, the worker would be busy for longer than the request waits.
        assert third.status_code == 200
        for job_id in jobs_:
            assert (await client.get(f"/jobs/{job_id}")).json()["code"] == "cancelled"
