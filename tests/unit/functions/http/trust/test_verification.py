"""`POST /verify`: marks of a recording, and its job for the owner."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from pipeline.access import api_keys
from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import Recording, encode_wav
from pipeline.audio.wav import WAV
from pipeline.contract import layout
from pipeline.contract.records import Request, Source
from pipeline.domain import acceptance
from pipeline.ids import Owner
from pipeline.marking.manifest import Origin
from pipeline.provenance import fingerprints
from pipeline.provenance.manifests import Manifests
from pipeline.settings import Settings
from tests.support.api import api, problem
from tests.support.fake_service import FakeService
from tests.support.recordings import encoded
from tests.unit.pipeline.marking.test_fingerprint import RATE, speech

SPEECH = speech(0, 3)
PLAIN = encode_wav(Recording(SPEECH, RATE))


@dataclass(frozen=True, slots=True)
class Generated:
    """A preview of an owner."""

    fakes: FakeService
    job_id: str
    wav: bytes


async def generate(owner: Owner, **settings: Any) -> Generated:
    """Store a marked preview of a saved voice."""
    fakes = FakeService(Settings(mark="c2pa", auth="keys" if owner else "none", **settings))
    resources = fakes.resources
    request = Request(
        job_id=new_id(resources.new_id, owner),
        kind="preview",
        source=Source(voice_id="nova", owner=owner),
        reference_id="r",
        created_at=fakes.time(),
    )
    await acceptance.accept(resources, request)
    await fingerprints.store(resources, owner, request.job_id, Recording(SPEECH, RATE))
    wav = await Manifests(resources).add(PLAIN, WAV, Origin(request.job_id, fakes.time(), "model-1"))
    return Generated(fakes, request.job_id, wav)


async def key_of(fakes: FakeService, owner: str) -> dict[str, str]:
    """Return the header with a new key of an owner."""
    key, _ = await api_keys.make(fakes.resources, owner=owner, name="test", scopes=["preview"], expires_at=None)
    return {"Authorization": f"Bearer {key}"}


async def verified(fakes: FakeService, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """Send a request."""
    async with api(fakes) as client:
        return await client.post("/verify", files={"audio": ("a.wav", body)}, headers=headers or {})


async def test_owner_finds_job_by_manifest() -> None:
    made = await generate("alice")
    result = (await verified(made.fakes, made.wav, await key_of(made.fakes, "alice"))).json()
    assert result["is_marked"]
    assert result["manifest"] == {
        "present": True,
        "valid": True,
        "trusted": False,
        "synthetic": True,
        "signer": "Voice cloning service (self-signed)",
        "model": "model-1",
        "created_at": "2026-01-01T00:00:00Z",
    }
    assert (result["job_id"], result["voice_id"], result["matched_by"]) == (made.job_id, "nova", "manifest")


async def test_owner_finds_job_without_manifest() -> None:
    made = await generate("alice")
    result = (await verified(made.fakes, PLAIN, await key_of(made.fakes, "alice"))).json()
    assert not result["is_marked"]
    assert not result["manifest"]["present"]
    assert (result["job_id"], result["voice_id"], result["matched_by"]) == (made.job_id, "nova", "fingerprint")


async def test_found_job_is_in_audit_log() -> None:
    made = await generate("alice")
    await verified(made.fakes, made.wav)
    assert made.fakes.keys(layout.AUDIT_PENDING) == []
    await verified(made.fakes, made.wav, await key_of(made.fakes, "alice"))
    (key,) = made.fakes.keys(layout.AUDIT_PENDING)
    entry = json.loads(made.fakes.bucket.objects[key].body)
    assert (entry["action"], entry["job_id"]) == ("verified", made.job_id)
    assert entry["hashes"] == {"audio": hashlib.sha256(made.wav).hexdigest()}


async def test_caller_without_authentication_finds_job() -> None:
    made = await generate(None)
    result = (await verified(made.fakes, made.wav)).json()
    assert (result["job_id"], result["matched_by"]) == (made.job_id, "manifest")


@pytest.mark.parametrize("owner", ["bob", None])
async def test_others_find_marks_only(owner: str | None) -> None:
    made = await generate("alice")
    headers = await key_of(made.fakes, owner) if owner else None
    for body in (made.wav, PLAIN):
        result = (await verified(made.fakes, body, headers)).json()
        assert result["manifest"]["present"] == (body == made.wav)
        assert (result["job_id"], result["voice_id"], result["matched_by"]) == (None, None, None)


async def test_expired_job_is_not_found() -> None:
    made = await generate("alice")
    made.fakes.advance(hours=25)
    result = (await verified(made.fakes, made.wav, await key_of(made.fakes, "alice"))).json()
    assert result["is_marked"]
    assert result["job_id"] is None


async def test_manifest_by_other_service_names_no_job() -> None:
    made, other = await generate("alice"), FakeService(Settings(mark="c2pa"))
    short = encode_wav(Recording(SPEECH[:RATE], RATE))  # too short for the fingerprint
    forged = await Manifests(other.resources).add(short, WAV, Origin(made.job_id, other.time(), "model-1"))
    result = (await verified(made.fakes, forged, await key_of(made.fakes, "alice"))).json()
    assert result["manifest"]["valid"]
    assert result["job_id"] is None


async def test_changed_audio_has_invalid_manifest() -> None:
    made = await generate("alice")
    changed = bytearray(made.wav)
    changed[1000] ^= 1
    result = (await verified(made.fakes, bytes(changed), await key_of(made.fakes, "alice"))).json()
    assert not result["is_marked"]
    assert (result["manifest"]["present"], result["manifest"]["valid"]) == (True, False)
    assert (result["job_id"], result["matched_by"]) == (made.job_id, "fingerprint")


async def test_format_without_manifests() -> None:
    result = (await verified(FakeService(), encoded(format_="OGG", subtype="OPUS"))).json()
    assert result["manifest"] is None
    assert not result["is_marked"]


async def test_long_audio_with_manifest() -> None:
    made = await generate("alice", reference_max_seconds=2)
    result = (await verified(made.fakes, made.wav, await key_of(made.fakes, "alice"))).json()
    assert result["matched_by"] == "manifest"
    assert not result["watermark"]["available"]
    problem(await verified(made.fakes, PLAIN), 422, "invalid_audio")


async def test_requests_without_key_are_limited() -> None:
    fakes = FakeService(Settings(auth="keys", verifications_per_minute=1))
    key = await key_of(fakes, "alice")
    async with api(fakes) as client:
        answers = [
            await client.post("/verify", files={"audio": ("a.wav", PLAIN)}, headers=headers)
            for headers in ({}, {}, key)
        ]
    assert [answer.status_code for answer in answers] == [200, 429, 200]
    assert answers[1].headers["retry-after"] == "60"


async def test_key_required_by_setting() -> None:
    fakes = FakeService(Settings(auth="keys", verifications_per_minute=0))
    problem(await verified(fakes, PLAIN), 401, "unauthorized")
    problem(await verified(fakes, PLAIN, {"Authorization": "Bearer nonsense"}), 401, "unauthorized")


@pytest.mark.parametrize("body", [b"", b"no audio", PLAIN[:1000]])
async def test_file_that_is_no_audio(body: bytes) -> None:
    problem(await verified(FakeService(), body), 422, "invalid_audio")


async def test_large_file_is_refused() -> None:
    fakes = FakeService(Settings(reference_max_megabytes=0.1))
    problem(await verified(fakes, PLAIN), 413, "too_large")
