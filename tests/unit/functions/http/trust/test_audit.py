"""`GET /audit`, and the entries that the service records."""

import json
from typing import Any

import httpx

from functions.background import notify, sweep
from pipeline.access.audit.chain import append_all_pending
from pipeline.access.audit.entries import record, sha256
from pipeline.access.audit.verification import verify
from pipeline.audio.reference_audio import encoded
from pipeline.contract import layout
from pipeline.contract.messages.events import created_notification
from pipeline.contract.records import Request, Source
from pipeline.domain import voice_changes
from pipeline.domain.consents import giving
from pipeline.domain.consents.found import find_for_speaker
from pipeline.domain.consents.giving import Terms
from pipeline.domain.revocation.consents import revoke_consent
from pipeline.domain.revocation.revoke import revoke_voice
from tests.support.fake_service import Crash, FakeService, reference_recording
from tests.support.saved_voices import complete_revocations
from tests.unit.functions.access.test_authorization import SETTINGS, bearer, belongings, client_of, key_of


async def entries(client: httpx.AsyncClient, key: str, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/audit", headers=bearer(key), params=query)
    assert answer.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in answer.text.splitlines()]


def actions(found: list[dict[str, Any]]) -> list[str]:
    return [entry["action"] for entry in found]


async def outcome_event(fakes: FakeService, job_id: str) -> dict[str, Any]:
    body = created_notification(fakes.resources.settings.bucket, layout.outcome(job_id))
    return {"Records": [{"messageId": "m", "body": body}]}


async def test_audit_of_voice() -> None:
    fakes = FakeService(SETTINGS)
    mine, key = await belongings(fakes, "alice"), await key_of(fakes, "alice")
    async with client_of(fakes) as client:
        body = {"session_id": mine.session_id, "name": "Ann"}
        await client.post("/voices", json=body, headers=bearer(key))
        export = await client.get("/voices/ann/export", headers=bearer(key))
        form = {"voice_id": "ann", "response_text": "Top secret words."}
        job = await client.post("/preview-from-voice", data=form, headers=bearer(key) | {"Prefer": "respond-async"})
        request = Request.model_validate_json(await fakes.bucket.get(layout.request(job.json()["job_id"])) or b"")
        await fakes.succeed(request)
        lookups = notify.Lookups.of(fakes.resources)
        for _ in range(2):  # events can be delivered twice
            await notify.handle(fakes.resources, await outcome_event(fakes, request.job_id), lookups)
        await client.delete("/voices/ann", headers=bearer(key))
        found = [entry for entry in await entries(client, key) if entry.get("voice_id") == "ann"]
    assert sorted(actions(found)) == ["deleted", "exported", "saved", "used"]
    assert {entry["owner"] for entry in found} == {"alice"}
    assert {entry["key_id"] for entry in found} == {key.split("_")[1]}
    used = next(entry for entry in found if entry["action"] == "used")
    assert (used["job_id"], used["result"]) == (request.job_id, "succeeded")
    exported = next(entry for entry in found if entry["action"] == "exported")
    assert len(exported["hashes"]["bundle"]) == 64
    assert export.is_success
    stored = b"".join(item.body for item in fakes.audit.objects.values())
    assert b"secret" not in stored
    assert b"What I say" not in stored


async def test_audit_of_other_owner() -> None:
    fakes = FakeService(SETTINGS)
    for owner in ("alice", "bob"):
        await belongings(fakes, owner)
    alice, admin = await key_of(fakes, "alice"), await key_of(fakes, "root", "admin")
    async with client_of(fakes) as client:
        assert {entry["owner"] for entry in await entries(client, alice)} == {"alice"}
        for owner in ("bob", "*"):
            refused = await client.get("/audit", params={"owner": owner}, headers=bearer(alice))
            assert refused.status_code == 403
        assert await entries(client, admin) == []
        assert {entry["owner"] for entry in await entries(client, admin, owner="*")} == {"alice", "bob"}
        assert {entry["owner"] for entry in await entries(client, admin, owner="bob")} == {"bob"}


async def test_audit_is_paged() -> None:
    fakes = FakeService(SETTINGS)
    for _ in range(5):
        await record(fakes.resources, "alice", "used", "ann")
    key = await key_of(fakes, "alice")
    async with client_of(fakes) as client:
        found, url = list[str](), "/audit?limit=2"
        while url:
            answer = await client.get(url, headers=bearer(key))
            found += answer.text.splitlines()
            url = answer.links.get("next", {}).get("url", "")
    assert [json.loads(line)["sequence"] for line in found] == [1, 2, 3, 4, 5]


async def test_failed_job_is_recorded() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.fail(request)
    await notify.handle(
        fakes.resources, await outcome_event(fakes, request.job_id), notify.Lookups.of(fakes.resources)
    )
    await sweep.handle(fakes.resources, {})
    (entry,) = [json.loads(item.body) for item in fakes.audit.objects.values()]
    assert (entry["action"], entry["result"]) == ("used", "unavailable")
    assert entry["session_id"] == request.source.session_id


async def test_interrupted_change_is_recorded() -> None:
    """A crash after any call of a save or deletion: the log says what has happened, once."""
    steps, is_done = 0, False
    while not is_done:
        fakes = FakeService()
        session_id = await fakes.session()
        fakes.fail_after(steps)
        try:
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
            await revoke_voice(fakes.resources, None, "nova", "deleted")
            is_done = True
        except Crash:
            pass
        fakes.recover()
        fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
        await voice_changes.finish_changes(fakes.resources)
        await append_all_pending(fakes.resources)
        await complete_revocations(fakes)
        await append_all_pending(fakes.resources)
        is_saved = layout.voice(None, "nova").metadata in fakes.voices.objects
        found = [json.loads(line) for item in fakes.audit.objects.values() for line in item.body.splitlines()]
        assert sorted(actions(found)) in ([["saved"]] if is_saved else [[], ["deleted", "saved"]])
        await verify(fakes.resources, "_")
        steps += 1
    assert steps >= 15


async def test_consent_is_recorded() -> None:
    fakes = FakeService()
    reference = Source(session_id=await fakes.session())
    terms = Terms("Ann Person", ["audio books"])
    consent, token = await giving.prepare(fakes.resources, None, reference, terms, "English")
    recording = encoded(reference_recording())
    await giving.give(fakes.resources, None, consent.consent_id, recording)
    fakes.advance(seconds=1)
    await revoke_consent(fakes.resources, await find_for_speaker(fakes.resources, consent.consent_id, token))
    await append_all_pending(fakes.resources)
    stored = b"".join(item.body for item in fakes.audit.objects.values())
    given, revoked = [json.loads(line) for line in stored.splitlines()]
    assert (given["action"], revoked["action"]) == ("consent_given", "revoked")
    assert given["hashes"]["recording"] == sha256(recording.wav)
    assert given["session_id"] == revoked["session_id"] == reference.session_id
    assert b"Ann" not in stored
