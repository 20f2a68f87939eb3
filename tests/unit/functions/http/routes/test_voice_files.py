"""The recording and the export of a voice."""

import io
import json
import zipfile
from hashlib import sha256

import httpx
import pytest

from functions.http.application import create_app, serve_with
from pipeline.contract import layout
from pipeline.domain import voice_changes
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.settings import Settings
from tests.support.fake_service import PROMPT, FakeService


def client_of(fakes: FakeService) -> httpx.AsyncClient:
    app = create_app(fakes.resources.settings)
    serve_with(app, fakes.resources)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def recording(fakes: FakeService, voice_id: str) -> bytes:
    [key] = [key for key in fakes.voice_keys(layout.voice(None, voice_id).folder) if key.endswith("source.wav")]
    return fakes.voices.objects[key].body


async def test_sample_is_recording() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    async with client_of(fakes) as client:
        answer = await client.get("/voices/nova/sample")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert answer.headers["content-disposition"] == 'inline; filename="nova.wav"'
    assert answer.content == recording(fakes, "nova")


async def test_sample_ranges() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    sample = recording(fakes, "nova")
    async with client_of(fakes) as client:
        etag = (await client.get("/voices/nova/sample")).headers["etag"]
        part = await client.get("/voices/nova/sample", headers={"Range": "bytes=4-7", "If-Range": etag})
        assert (part.status_code, part.content) == (206, sample[4:8])
        assert part.headers["content-range"] == f"bytes 4-7/{len(sample)}"
        assert part.headers["accept-ranges"] == "bytes"
        outside = await client.get("/voices/nova/sample", headers={"Range": f"bytes={len(sample)}-"})
        assert (outside.status_code, outside.headers["content-range"]) == (416, f"bytes */{len(sample)}")
        assert (await client.get("/voices/nova/sample", headers={"If-None-Match": etag})).status_code == 304


async def test_large_sample_redirects() -> None:
    fakes = FakeService(Settings(answer_max_megabytes=0.01))
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    async with client_of(fakes) as client:
        answer = await client.get("/voices/nova/sample")
        assert answer.status_code == 303
        assert "audio/voices/nova/" in answer.headers["location"]
        too_large = await client.get("/voices/nova/export")
    assert too_large.status_code == 413
    assert "/voices/nova/sample" in too_large.json()["detail"]


async def test_export_contains_all_files() -> None:
    fakes = FakeService()
    session_id = await fakes.session("What I say.")
    await voice_changes.save(fakes.resources, None, session_id, "Nova", "calm", "I agree.")
    async with client_of(fakes) as client:
        answer = await client.get("/voices/nova/export")
        again = await client.get("/voices/nova/export")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="nova.zip"'
    assert again.content == answer.content
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    assert files.pop("recording.wav") == recording(fakes, "nova")
    described = json.loads(files.pop("metadata.json"))
    assert (described["voice_id"], described["name"], described["description"]) == ("nova", "Nova", "calm")
    assert described["consent"]["text"] == "I agree."
    assert described["consent"]["reference_sha256"] == sha256(recording(fakes, "nova")).hexdigest()
    assert json.loads(files.pop("manifest.json"))["files"].keys() == {"metadata.json", "recording.wav", *files} - {
        "signature.json"
    }
    assert files.pop("signature.json")
    assert files == {"transcription.txt": b"What I say.", "consent.txt": b"I agree.", "prompt.json": PROMPT}


async def test_exported_voice_is_imported() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session("What I say."), "Nova", "calm")
    async with client_of(fakes) as client:
        bundle = (await client.get("/voices/nova/export")).content
        refused = await client.post("/voices/import", files={"bundle": bundle})
        imported = await client.post("/voices/import", files={"bundle": bundle}, data={"name": "Copy"})
        sample = await client.get("/voices/copy/sample")
    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")
    assert (imported.status_code, imported.headers["location"]) == (201, "/voices/copy")
    assert imported.json()["description"] == "calm"
    assert imported.json()["imported"]["is_trusted"] is True
    assert sample.content == recording(fakes, "nova")


async def test_export_omits_empty_files() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(""), "Nova")
    async with client_of(fakes) as client:
        answer = await client.get("/voices/nova/export")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        assert "transcription.txt" not in bundle.namelist()
        assert "consent.txt" not in bundle.namelist()


@pytest.mark.parametrize("what", ["sample", "export"])
async def test_deleted_voice_has_no_files(what: str) -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    async with client_of(fakes) as client:
        assert (await client.get(f"/voices/nova/{what}")).status_code == 404


async def test_consent_and_rename() -> None:
    fakes = FakeService()
    body = {"session_id": await fakes.session(), "name": "Nova", "consent": "I agree."}
    async with client_of(fakes) as client:
        saved = (await client.post("/voices", json=body)).json()
        expected = {"text": "I agree.", "given_at": "2026-01-01T00:00:00Z", "status": "unverified"}
        assert saved["consent"].items() >= expected.items()
        renamed = await client.patch("/voices/nova", json={"name": "Aria"})
        assert (renamed.status_code, renamed.json()) == (200, saved | {"name": "Aria"})
        [listed] = (await client.get("/voices")).json()["voices"]
        assert (listed["name"], listed["consent"]) == ("Aria", saved["consent"])
        nothing = await client.patch("/voices/nova", json={})
    assert nothing.status_code == 422
    assert "new name" in nothing.json()["detail"]
