"""Manifests of the service: the shared certificate, that of the settings, and the marked files."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from functions.previews.transcoding import Transcoder
from pipeline.audio.output_formats import FORMATS, FormatName
from pipeline.audio.reference_audio import encode_wav
from pipeline.audio.wav import WAV
from pipeline.contract import layout
from pipeline.environment import SettingsError
from pipeline.errors import Unavailable
from pipeline.marking import manifest
from pipeline.marking.manifest import Origin
from pipeline.provenance.certificates import self_signed
from pipeline.provenance.manifests import Manifests
from pipeline.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.fakes.clock import EPOCH
from tests.support.fakes.resources import Fakes
from tests.support.job_requests import submit_upload_job
from tests.support.speech import voice
from tests.support.workers import fake_time_worker

SPEECH = encode_wav(voice(120, seconds=1.5, sample_rate=24_000))
ORIGIN = Origin("j" * 32, EPOCH, "model-1")


@pytest.fixture
def settings() -> Settings:
    """Settings with manifests."""
    return Settings(tts_backend="mock", mark="c2pa")


def with_settings(fakes: Fakes, **changed: object) -> Manifests:
    """Return the manifests of a process with other settings."""
    settings = Settings.model_validate(fakes.resources.settings.model_dump() | changed)
    return Manifests(replace(fakes.resources, settings=settings))


async def test_processes_share_certificate(fakes: Fakes) -> None:
    first, second = await asyncio.gather(
        Manifests(fakes.resources).serial_number(), Manifests(fakes.resources).serial_number()
    )
    assert first == second == await Manifests(fakes.resources).serial_number()
    assert list(fakes.voices.objects) == [layout.SIGNING_CERTIFICATE]


async def test_damaged_shared_certificate(fakes: Fakes) -> None:
    await fakes.voices.put(layout.SIGNING_CERTIFICATE, b"{}", "application/json")
    with pytest.raises(Unavailable, match="certificate"):
        await Manifests(fakes.resources).add(SPEECH, WAV, ORIGIN)


@pytest.mark.parametrize("as_files", [False, True])
async def test_certificate_of_settings(fakes: Fakes, tmp_path: Path, as_files: bool) -> None:
    made = self_signed(EPOCH)
    certificate, key = made.certificate, made.private_key
    if as_files:
        for name, text in {"certificate.pem": certificate, "key.pem": key}.items():
            (tmp_path / name).write_text(text)
        certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    manifests = with_settings(fakes, mark_certificate=certificate, mark_private_key=key)
    found = manifest.read(await manifests.add(SPEECH, WAV, ORIGIN), WAV, made.certificate)
    assert found is not None
    assert found.is_trusted
    assert not fakes.voices.objects


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mark_certificate": self_signed(EPOCH).certificate}, "MARK_PRIVATE_KEY should be set"),
        ({"mark_private_key": self_signed(EPOCH).private_key}, "MARK_CERTIFICATE and"),
        ({"mark_certificate": "absent.pem", "mark_private_key": "absent.pem"}, "MARK_CERTIFICATE: the file"),
        (
            {
                "mark_certificate": self_signed(EPOCH).certificate,
                "mark_private_key": self_signed(EPOCH).private_key,
            },
            "MARK_CERTIFICATE: does not match",
        ),
    ],
)
async def test_unusable_certificate_of_settings(fakes: Fakes, changed: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        with_settings(fakes, **changed)


@pytest.mark.parametrize(
    ("mark", "media_type"), [("off", WAV), ("watermark", WAV), ("c2pa", "audio/ogg"), ("c2pa", "audio/aac")]
)
async def test_file_without_manifest_is_unchanged(fakes: Fakes, mark: str, media_type: str) -> None:
    manifests = with_settings(fakes, mark=mark)
    assert await manifests.add(SPEECH, media_type, ORIGIN) == SPEECH
    assert await manifests.copy(SPEECH, SPEECH, media_type, "j") == SPEECH


@pytest.mark.parametrize("required", [False, True])
async def test_file_that_cannot_be_signed(fakes: Fakes, required: bool) -> None:
    manifests = with_settings(fakes, mark_required=required)
    if required:
        with pytest.raises(Unavailable, match="signed"):
            await manifests.add(b"no audio", WAV, ORIGIN)
    else:
        assert await manifests.add(b"no audio", WAV, ORIGIN) == b"no audio"


async def test_stored_preview_has_manifest(fakes: Fakes) -> None:
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    found = manifest.read(fakes.bucket.objects[layout.preview(request.job_id)].body, WAV)
    assert found is not None
    assert found.origin is not None
    assert (found.origin.job_id, found.origin.model) == (request.job_id, ScriptedEngine().model)
    assert found.is_valid
    assert found.serial_number == await Manifests(fakes.resources).serial_number()


@pytest.mark.parametrize(("name", "speed"), [("mp3", 1.0), ("flac", 1.0), ("wav", 1.5)])
@pytest.mark.parametrize("is_marked", [True, False])
async def test_encoded_preview_has_manifest(fakes: Fakes, name: FormatName, speed: float, is_marked: bool) -> None:
    manifests = Manifests(fakes.resources)
    wav = await manifests.add(SPEECH, WAV, ORIGIN) if is_marked else SPEECH

    async def read() -> bytes:
        return wav

    format_ = replace(FORMATS[name], speed=speed)
    transcoder = Transcoder(fakes.resources, manifests)
    file = await transcoder.file(ORIGIN.job_id, format_, read, owner=None, expires_at=EPOCH, is_charged=False)
    found = manifest.read(file.body, format_.media_type)
    assert found is not None
    assert found.is_valid
    assert found.origin == (ORIGIN if is_marked else replace(ORIGIN, model="mock"))
