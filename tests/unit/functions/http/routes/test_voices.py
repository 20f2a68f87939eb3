"""The routes of voices."""

import json
from typing import Any

import pytest

from pipeline.domain import voice_changes
from tests.support.api import WAV, api, fields, problem
from tests.support.fake_service import FakeService


async def test_voice_lifecycle() -> None:
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
            "imported": None,
        }
        assert (await client.get("/voices/nova")).json() == saved.json()
        assert (await client.get("/voices")).json() == {"voices": [saved.json()]}
        again = await client.post("/voices", json={"session_id": session_id, "name": "nova"})
        assert fields(problem(again, 409, "name_taken")) == ["name"]
        assert (await client.delete("/voices/nova")).status_code == 204
        for gone in (await client.get("/voices/nova"), await client.delete("/voices/nova")):
            problem(gone, 404, "not_found")
        assert (await client.get("/voices")).json() == {"voices": []}


async def test_voice_list_pages() -> None:
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
async def test_save_voice_invalid_field(body: Any, field: str) -> None:
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
