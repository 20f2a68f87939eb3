"""Consents over HTTP: the statement, the recording, the review, and the links of the speaker."""

import base64
import json
from hashlib import sha256
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pipeline.contract import layout
from pipeline.domain import voice_changes
from pipeline.settings import Settings
from tests.support.api import WAV, api, fields, problem
from tests.support.fake_service import FakeService

TERMS = {"person": "Ann Smith", "purposes": ["books"], "languages": ["en"], "language": "en-GB"}
ASYNC = {"Prefer": "respond-async"}
FILES = {"recording": ("a.wav", WAV)}


async def created(client: httpx.AsyncClient, **reference: str) -> dict[str, Any]:
    answer = await client.post("/consents", json=TERMS | reference)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def given(client: httpx.AsyncClient, **reference: str) -> dict[str, Any]:
    made = await created(client, **reference)
    answer = await client.post(f"/consents/{made['consent_id']}/recording", files=FILES, headers=ASYNC)
    assert answer.status_code == 200, answer.text
    stored: dict[str, Any] = answer.json()
    return made | stored


async def test_review_allows_saving() -> None:
    fakes = FakeService(Settings(consent="require", operator="Example Audio"))
    session_id = await fakes.session()
    voice = {"session_id": session_id, "name": "Nova"}
    async with api(fakes) as client:
        consent = await given(client, session_id=session_id)
        assert consent["statement"].startswith("I, Ann Smith, agree that Example Audio makes")
        assert (consent["status"], consent["languages"]) == ("unverified", ["English"])
        refused = problem(await client.post("/voices", json=voice), 403, "consent_required")
        assert fields(refused) == ["session_id"]
        path = f"/consents/{consent['consent_id']}"
        assert sha256((await client.get(f"{path}/recording")).content).hexdigest() == consent["recording_sha256"]
        review = {"decision": "accepted", "note": "Heard."}
        assert (await client.post(f"{path}/review", json=review)).json()["status"] == "accepted"
        saved = (await client.post("/voices", json=voice)).json()
        assert saved["consent"]["status"] == "accepted"
        assert saved["consent"]["consent_id"] == consent["consent_id"]
        sample = (await client.get("/voices/nova/sample")).content
        assert saved["consent"]["reference_sha256"] == sha256(sample).hexdigest()
        fakes.advance(hours=13)  # the upload has expired, and the voice keeps the consent
        await client.post(f"{path}/review", json={"decision": "rejected"})
        assert (await client.get("/voices/nova")).json()["consent"]["status"] == "rejected"
        assert (await client.get(f"{path}/recording")).status_code == 200


async def test_receipt_is_verifiable() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        consent = await given(client, session_id=await fakes.session())
        signed = (await client.get(consent["receipt_url"])).json()
        key = (await client.get("/signing-key")).json()
    receipt, signature = signed["receipt"], signed["signature"]
    assert (receipt["person"], receipt["statement"]) == ("Ann Smith", consent["statement"])
    assert receipt["reference_sha256"] == consent["reference_sha256"]
    assert receipt["revocation_url"] == consent["revocation_url"]
    assert signature["key_id"] == key["key_id"]
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key["public_key"]))
    content = json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    public.verify(base64.b64decode(signature["value"]), content.encode())


async def test_signing_key_is_kept() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        first = (await client.get("/signing-key")).json()
        assert (await client.get("/signing-key")).json() == first
    fakes.resources = fakes.with_settings(Settings(signing_key=base64.b64encode(bytes(32)).decode()))
    async with api(fakes) as client:
        assert (await client.get("/signing-key")).json() != first


async def test_link_revokes_all_voices() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        consent = await given(client, session_id=session_id)
        for name in ("Nova", "Nova again"):
            assert (await client.post("/voices", json={"session_id": session_id, "name": name})).status_code == 201
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Other")
        url = consent["revocation_url"]
        page = await client.get(url)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
        assert '<form method="post">' in page.text
        problem(await client.post(url[:-1] + "!"), 403, "forbidden")
        assert len((await client.get("/voices")).json()["voices"]) == 3
        answer = await client.post(url)
        certificates = answer.json()["certificates"]
        assert sorted(made["voice_id"] for made in certificates) == ["nova", "nova-again"]
        assert {made["reason"] for made in certificates} == {"consent_revoked"}
        assert [voice["voice_id"] for voice in (await client.get("/voices")).json()["voices"]] == ["other"]
        problem(await client.post(url), 404, "not_found")
    assert fakes.voice_keys(layout.CONSENTS) == []
    assert session_id not in "".join(fakes.keys(layout.UPLOADS))
    assert consent["consent_id"] not in "".join(fakes.keys(layout.UPLOADS))


async def test_link_revokes_consent_of_upload() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        consent = await given(client, session_id=session_id)
        assert (await client.post(consent["revocation_url"])).json()["certificates"] == []
        voice = {"session_id": session_id, "name": "Nova"}
        problem(await client.post("/voices", json=voice), 404, "not_found")


async def test_renewed_consent_replaces_kept_one() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    async with api(fakes) as client:
        before = await given(client, session_id=session_id)
        await client.post("/voices", json={"session_id": session_id, "name": "Nova"})
        renewed = await given(client, voice_id="nova")
        kept = await client.put("/voices/nova/consent", json={"consent_id": renewed["consent_id"]})
        assert kept.json()["consent"]["consent_id"] == renewed["consent_id"]
        files = fakes.voice_keys(layout.voice(None, "nova").folder)
        assert [key for key in files if "consent" in key] == [
            f"audio/voices/nova/{session_id}/consent-{renewed['consent_id']}.wav"
        ]
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Other")
        assert (await client.post(before["revocation_url"])).json()["certificates"] == []
        assert (await client.get("/voices/nova")).status_code == 200
        assert (await client.delete("/voices/nova")).status_code == 204
    assert fakes.voice_keys(layout.CONSENTS) == []


async def test_consent_needs_one_reference() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        for wrong in ({}, {"session_id": await fakes.session(), "voice_id": "nova"}):
            assert fields(problem(await client.post("/consents", json=TERMS | wrong), 422)) == ["session_id"]
        waiting = await created(client, session_id=await fakes.session())
        problem(await client.get(waiting["receipt_url"]), 404)


async def test_consents_are_listed_in_pages() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        made = []
        for _ in range(3):
            made.append((await created(client, session_id=await fakes.session()))["consent_id"])
            fakes.advance(seconds=1)
        first = (await client.get("/consents?limit=2")).json()
        rest = (await client.get(f"/consents?after={first['next']}")).json()
    assert [one["consent_id"] for one in first["consents"] + rest["consents"]] == made
    assert "receipt_url" not in first["consents"][0]
