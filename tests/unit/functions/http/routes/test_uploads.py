"""The routes of uploads, and the limits of their bodies."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.contract import layout
from pipeline.settings import Settings
from tests.support.api import WAV, api, fields, problem
from tests.support.fake_service import FakeService
from tests.support.speech import voice_wav


async def test_body_content_length_too_large() -> None:
    async with api(FakeService(Settings(reference_max_megabytes=1))) as client:
        for route, most in (
            ("/preview", "2 MB"),
            ("/upload", "2 MB"),
            ("/uploads", "112 KB"),
            ("/voices", "112 KB"),
        ):
            headers = {
                "content-length": str(2 * 1024 * 1024 + 1),
                "content-type": "multipart/form-data; boundary=b",
            }
            answer = await client.post(route, content=b"x", headers=headers)
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
async def test_body_chunked_too_large(route: str, content_type: str) -> None:
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


async def test_recording_too_large() -> None:
    async with api(FakeService(Settings(reference_max_megabytes=0.01))) as client:
        answer = await client.post("/preview", data={"response_text": "Hi."}, files={"audio": ("a", WAV)})
    body = problem(answer, 413, "too_large")
    assert fields(body) == ["audio"]


async def test_open_upload() -> None:
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


@pytest.mark.parametrize(
    ("given", "standard"),
    [
        ("audio/x-wav", "audio/wav"),
        ("audio/mp3", "audio/mpeg"),
        ("application/ogg", "audio/ogg"),
        ("audio/webm;codecs=opus", "audio/webm"),
        ("AUDIO/WAV; codecs=1", "audio/wav"),
    ],
)
async def test_upload_content_type(given: str, standard: str) -> None:
    async with api(FakeService()) as client:
        answer = await client.post("/uploads", json={"content_type": given})
    assert answer.status_code == 201, answer.text
    assert answer.json()["fields"]["Content-Type"] == standard


@pytest.mark.parametrize("given", ["text/html", "", "audio/", "audio/midi", 5, "audio/wav" + " " * 200])
async def test_upload_content_type_unknown(given: object) -> None:
    async with api(FakeService()) as client:
        answer = await client.post("/uploads", json={"content_type": given})
    assert fields(problem(answer, 422)) == ["content_type"]


async def test_request_limit_suggests_uploads() -> None:
    settings = Settings(request_max_megabytes=0.5, reference_max_megabytes=25)
    async with api(FakeService(settings)) as client:
        headers = {"content-length": str(512 * 1024 + 1), "content-type": "multipart/form-data; boundary=b"}
        answer = await client.post("/preview", content=b"x", headers=headers)
        told = problem(answer, 413, "too_large")["error"]
        assert "at most 512 KB" in told
        assert "up to 25 MB" in told
        assert "POST /uploads" in told


async def test_uploads_of_two_voices_differ() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        ids = [
            (await client.post("/upload", files={"audio": ("a", voice_wav(pitch))})).json()["session_id"]
            for pitch in (110.0, 220.0)
        ]
    low, high = (fakes.bucket.objects[layout.session(id_).audio].body for id_ in ids)
    assert low != high
