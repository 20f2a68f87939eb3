"""The exported file of a voice."""

import io
import json
import zipfile

import pytest

from pipeline.domain import voice_changes, voice_export
from pipeline.errors import TooLarge
from pipeline.settings import Settings
from tests.support.fake_service import FakeService


async def bundle(fakes: FakeService, transcription: str = "Größe.", consent: str = "Ich stimme zu.") -> bytes:
    session_id = await fakes.session(transcription)
    await voice_changes.save(fakes.resources, None, session_id, "Növa", "ruhig", consent)
    return await voice_export.make_bundle(fakes.resources, None, "nova")


async def test_export_contents() -> None:
    fakes = FakeService()
    with zipfile.ZipFile(io.BytesIO(await bundle(fakes))) as archive:
        assert archive.namelist() == ["metadata.json", "recording.wav", "transcription.txt", "consent.txt"]
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
        assert archive.namelist() == ["metadata.json", "recording.wav"]
        assert "consent" not in json.loads(archive.read("metadata.json"))


async def test_export_with_consent_recording() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await voice_changes.save(fakes.resources, None, session_id, "Nova", consent="Yes.", consent_recording=b"RIFF")
    with zipfile.ZipFile(io.BytesIO(await voice_export.make_bundle(fakes.resources, None, "nova"))) as archive:
        assert archive.read("consent.wav") == b"RIFF"
        assert json.loads(archive.read("metadata.json"))["consent"].keys() == {"text", "given_at"}
    await voice_changes.delete(fakes.resources, None, "nova")
    assert fakes.voice_keys() == []


async def test_export_is_reproducible() -> None:
    fakes = FakeService()
    first = await bundle(fakes)
    fakes.advance(days=1)
    assert await voice_export.make_bundle(fakes.resources, None, "nova") == first


@pytest.mark.parametrize("spare", [-1, 0])
async def test_export_too_large(spare: int) -> None:
    fakes = FakeService()
    size = len(await bundle(fakes))
    limited = FakeService(Settings(answer_max_megabytes=(size + spare) / 2**20))
    if spare == 0:
        assert len(await bundle(limited)) == size
    else:
        with pytest.raises(TooLarge, match="/voices/nova/sample"):
            await bundle(limited)
