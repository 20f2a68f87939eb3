"""Stored previews: expiry, ranges, versions and redirects."""

import asyncio
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from pipeline.contract import layout
from pipeline.settings import Settings
from tests.support.api import WAV, api, complete_job, last_request, problem
from tests.support.fake_service import FakeService

THREE_BYTES = 3 / 1024 / 1024


@pytest.mark.parametrize(
    ("method", "query", "headers", "status"),
    [
        ("HEAD", "", {}, 200),
        ("HEAD", "", {"If-None-Match": "*"}, 304),
        ("GET", "", {"If-None-Match": "*"}, 304),
        ("GET", "?signed=1", {}, 303),
    ],
)
async def test_response_without_body_reads_no_audio(
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


async def test_preview_expires() -> None:
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


async def test_preview_unknown() -> None:
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
async def test_preview_conditions(headers: dict[str, str], status: int, content: bytes, range_: str | None) -> None:
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


async def test_range_not_satisfiable() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes) as client:
        answer = await client.get(f"/previews/{request.job_id}.wav", headers={"Range": "bytes=4-"})
    problem(answer, 416)
    assert answer.headers["content-range"] == "bytes */4"


def check_redirect(answer: httpx.Response, job_id: str, expires: str) -> None:
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


async def test_large_preview_redirects() -> None:
    fakes = FakeService(Settings(answer_max_megabytes=THREE_BYTES))
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await complete_job(fakes, asyncio.create_task(client.post("/preview", data=form)))
        job_id = (await last_request(fakes)).job_id
        check_redirect(answer, job_id, "2026-01-01T00:20:00+00:00")
        assert answer.headers["x-job-id"] == job_id
        assert answer.headers["x-session-id"] == form["session_id"]
        assert answer.headers["content-location"] == f"/previews/{job_id}.wav"
        fakes.advance(minutes=19)
        check_redirect(await client.get(f"/previews/{job_id}.wav"), job_id, "2026-01-01T00:20:00+00:00")
        fakes.advance(seconds=59)
        problem(await client.get(f"/previews/{job_id}.wav"), 410, "expired")


async def test_preview_at_size_limit() -> None:
    fakes = FakeService(Settings(answer_max_megabytes=4 / 1024 / 1024))
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await complete_job(fakes, asyncio.create_task(client.post("/preview", data=form)))
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
async def test_ranges_of_large_preview(headers: dict[str, str], status: int, content: bytes | None) -> None:
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


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1"}, {"Range": "bytes=99-"}])
async def test_head_equals_get(headers: dict[str, str]) -> None:
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


@pytest.mark.parametrize("extension", ["flac", "mp3", "opus", "aac", "pcm"])
async def test_ranges_of_format(extension: str) -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.bucket.put(layout.preview(request.job_id), WAV, "audio/wav")
    await fakes.succeed(request)
    url = f"/previews/{request.job_id}.{extension}"
    async with api(fakes) as client:
        whole = await client.get(url)
        size, etag = len(whole.content), whole.headers["etag"]
        assert whole.headers["accept-ranges"] == "bytes"
        for range_, expected in [
            ("bytes=0-1", (0, 1)),
            ("bytes=2-", (2, size - 1)),
            ("bytes=-3", (size - 3, size - 1)),
            (f"bytes=1-{size * 2}", (1, size - 1)),
        ]:
            first, last = expected
            for condition in ({}, {"If-Range": etag}):
                part = await client.get(url, headers={"Range": range_} | condition)
                assert (part.status_code, part.content) == (206, whole.content[first : last + 1])
                assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        for other in ('"other"', f"W/{etag}", "Thu, 01 Jan 2026 00:00:00 GMT"):
            all_ = await client.get(url, headers={"Range": "bytes=0-1", "If-Range": other})
            assert (all_.status_code, all_.content) == (200, whole.content)
        outside = await client.get(url, headers={"Range": f"bytes={size}-"})
        problem(outside, 416, "range_not_satisfiable")
        assert outside.headers["content-range"] == f"bytes */{size}"
        head = await client.head(url, headers={"Range": "bytes=0-1"})
        assert (head.status_code, head.headers["content-length"]) == (200, str(size))
        known = await client.get(url, headers={"If-None-Match": etag})
        assert (known.status_code, known.headers["etag"]) == (304, etag)


async def test_if_none_match_of_other_encoding() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.bucket.put(layout.preview(request.job_id), WAV, "audio/wav")
    await fakes.succeed(request)
    async with api(fakes) as client:
        etag = (await client.get(f"/previews/{request.job_id}.opus")).headers["etag"]
    fakes.recover()
    async with api(fakes) as other_process:
        answer = await other_process.get(f"/previews/{request.job_id}.opus", headers={"If-None-Match": etag})
    assert answer.status_code == 304
    assert fakes.bucket.switch.count("read") == 0


@pytest.mark.parametrize("extension", ["wav", "pcm", "mp3"])
async def test_speed_of_preview(extension: str) -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.bucket.put(layout.preview(request.job_id), WAV, "audio/wav")
    await fakes.succeed(request)
    url = f"/previews/{request.job_id}.{extension}"
    async with api(fakes) as client:
        whole, fast = await client.get(url), await client.get(url, params={"speed": 2})
        head = await client.head(f"/previews/{request.job_id}.wav", params={"speed": 2})
        problem(await client.get(url, params={"speed": 5}), 422)
    assert len(fast.content) == pytest.approx(len(whole.content) / 2, rel=0.3)
    assert fast.headers["etag"] != whole.headers["etag"]
    assert (head.status_code, head.content) == (200, b"")


async def test_if_none_match_of_other_speed() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.bucket.put(layout.preview(request.job_id), WAV, "audio/wav")
    await fakes.succeed(request)
    url = f"/previews/{request.job_id}.mp3"
    async with api(fakes) as client:
        fast = await client.get(url, params={"speed": 2})
        normal = await client.get(url, headers={"If-None-Match": fast.headers["etag"]})
    assert (normal.status_code, fast.status_code) == (200, 200)
