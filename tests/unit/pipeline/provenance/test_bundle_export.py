"""The exported file of a voice."""

import base64
import hashlib
import io
import json
import zipfile

import pytest

from pipeline.audio.reference_audio import encoded
from pipeline.domain import voice_changes
from pipeline.domain.consents import recorded
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import TooLarge
from pipeline.provenance.bundles import export
from pipeline.provenance.signing_key import signing_key
from pipeline.settings import Settings
from tests.support.fake_service import FakeService, reference_recording


async def bundle(fakes: FakeService, transcription: str = "Größe.", consent: str = "Ich stimme zu.") -> bytes:
    session_id = await fakes.session(transcription)
    await voice_changes.save(fakes.resources, None, session_id, "Növa", "ruhig", consent)
    return await export.make_bundle(fakes.resources, None, "nova")


async def test_export_contents() -> None:
    fakes = FakeService()
    with zipfile.ZipFile(io.BytesIO(await bundle(fakes))) as archive:
        assert archive.namelist() == [
            "metadata.json",
            "recording.wav",
            "transcription.txt",
            "consent.txt",
            "prompt.json",
            "manifest.json",
            "signature.json",
        ]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        described = archive.read("metadata.json").decode()
        assert archive.read("transcription.txt").decode() == "Größe."
        assert archive.read("consent.txt").decode() == "Ich stimme zu."
    assert "Növa" in described  # readable, without escape sequences
    assert set(json.loads(described)) == {
        "voice_id",
        "name",
        "description",
        "created_at",
        "duration_seconds",
        "sample_rate",
        "model",
        "consent",
    }


async def test_export_without_optional_files() -> None:
    with zipfile.ZipFile(io.BytesIO(await bundle(FakeService(), transcription="", consent=""))) as archive:
        assert archive.namelist() == [
            "metadata.json",
            "recording.wav",
            "prompt.json",
            "manifest.json",
            "signature.json",
        ]
        assert "consent" not in json.loads(archive.read("metadata.json"))


async def test_export_with_consent_recording() -> None:
    fakes = FakeService()
    recording = encoded(reference_recording())
    consent = await recorded.create(fakes.resources, None, "Mine", "en", "Yes.", recording)
    session_id = await fakes.session()
    await voice_changes.save(fakes.resources, None, session_id, "Nova", consent_id=consent.consent_id)
    with zipfile.ZipFile(io.BytesIO(await export.make_bundle(fakes.resources, None, "nova"))) as archive:
        assert archive.read("consent.wav") == recording.wav
        kept = json.loads(archive.read("metadata.json"))["consent"]
    assert kept["recording_sha256"] == hashlib.sha256(recording.wav).hexdigest()
    assert not kept.keys() & {"recording_file", "token_sha256"}
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert fakes.voice_keys() == []


async def test_manifest_contains_hashes() -> None:
    fakes = FakeService()
    with zipfile.ZipFile(io.BytesIO(await bundle(fakes))) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest["format"] == "voice-bundle/1"
        assert manifest["files"] == {
            name: {"bytes": len(archive.read(name)), "sha256": hashlib.sha256(archive.read(name)).hexdigest()}
            for name in archive.namelist()
            if name not in {"manifest.json", "signature.json"}
        }
        signature = json.loads(archive.read("signature.json"))
    key = await signing_key(fakes.resources)
    assert base64.b64decode(signature["public_key"]) == key.public_bytes
    assert (signature["algorithm"], signature["key_id"]) == ("Ed25519", key.key_id)


async def test_export_is_reproducible() -> None:
    fakes = FakeService()
    first = await bundle(fakes)
    fakes.advance(days=1)
    assert await export.make_bundle(fakes.resources, None, "nova") == first


@pytest.mark.parametrize("spare", [-1, 0])
async def test_export_too_large(spare: int) -> None:
    fakes = FakeService()
    size = len(await bundle(fakes))
    limited = fakes.with_settings(Settings(answer_max_megabytes=(size + spare) / 2**20))
    if spare == 0:
        assert len(await export.make_bundle(limited, None, "nova")) == size
    else:
        with pytest.raises(TooLarge, match="/voices/nova/sample"):
            await export.make_bundle(limited, None, "nova")
