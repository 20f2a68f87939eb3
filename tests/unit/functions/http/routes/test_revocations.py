"""Deletion of a voice over HTTP, and its certificate."""

from pipeline.contract import layout
from pipeline.settings import Settings
from tests.support.api import WAV, api, problem
from tests.support.fake_service import FakeService
from tests.support.saved_voices import complete_revocations

KEY = {"Idempotency-Key": "one"}


async def test_delete_returns_path_of_certificate() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        await client.post("/voices", json={"session_id": session_id, "name": "Nova"})
        deleted = await client.delete("/voices/nova")
        assert (deleted.status_code, deleted.content) == (204, b"")
        await complete_revocations(fakes)
        certificate = (await client.get(deleted.headers["location"])).json()
    assert certificate["requested_at"] == "2026-01-01T00:00:00Z"
    assert certificate["completed_at"] == "2026-01-01T00:00:40Z"
    assert {
        "kind": "recording",
        "key": f"audio/voices/nova/{session_id}/source.wav",
        "versions": 1,
        "removed_at": "2026-01-01T00:00:00Z",
    } in certificate["removed"]
    assert {one["kind"] for one in certificate["remaining"]} == {"backup", "queue_message", "evidence"}


async def test_delete_returns_certificate_if_preferred() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        await client.post("/voices", json={"session_id": await fakes.session(), "name": "Nova"})
        deleted = await client.delete("/voices/nova", headers={"Prefer": "return=representation"})
        assert deleted.status_code == 200
        assert deleted.headers["preference-applied"] == "return=representation"
        assert deleted.json()["completed_at"] is None
        assert (await client.get(deleted.headers["location"])).json() == deleted.json()


async def test_unknown_certificate() -> None:
    async with api(FakeService()) as client:
        problem(await client.get("/revocations/nobody"), 404, "not_found")


async def test_stored_responses_are_deleted() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        upload = await client.post(
            "/upload", files={"audio": ("a.wav", WAV)}, headers={"Idempotency-Key": "upload"}
        )
        session_id = upload.json()["session_id"]
        new = {"session_id": session_id, "name": "Nova", "consent": "I agree."}
        assert (await client.post("/voices", json=new, headers={"Idempotency-Key": "save"})).status_code == 201
        form = {"voice_id": "nova", "response_text": "Hello."}
        headers = {"Idempotency-Key": "preview", "Prefer": "respond-async"}
        assert (await client.post("/preview-from-voice", data=form, headers=headers)).status_code == 202
        assert len(fakes.keys(layout.IDEMPOTENCY)) == 3
        await client.delete("/voices/nova")
        assert fakes.keys(layout.IDEMPOTENCY) == []
        problem(await client.post("/preview-from-voice", data=form, headers=headers), 404, "not_found")


async def test_record_of_repeats_is_deleted() -> None:
    fakes = FakeService(Settings(preview_wait_seconds=0))
    async with api(fakes) as client:
        await client.post("/voices", json={"session_id": await fakes.session(), "name": "Nova"})
        await client.post("/v1/audio/speech", json={"model": "tts-1", "voice": "nova", "input": "Hello."})
        assert len(fakes.keys(layout.IDEMPOTENCY)) == 1
        await client.delete("/v1/audio/voices/nova")
        assert fakes.keys(layout.IDEMPOTENCY) == []


async def test_job_of_deleted_voice_is_gone() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        await client.post("/voices", json={"session_id": await fakes.session(), "name": "Nova"})
        form = {"voice_id": "nova", "response_text": "Hello."}
        queued = await client.post("/preview-from-voice", data=form, headers={"Prefer": "respond-async"})
        await client.delete("/voices/nova")
        job = (await client.get(queued.headers["location"])).json()
    assert (job["status"], job["code"]) == ("failed", "voice_deleted")
