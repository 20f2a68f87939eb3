"""C2PA manifests: content, changed files, certificates, players."""

import io
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from shutil import which

import numpy as np
import pytest
import soundfile as sf
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from pipeline.audio.output_formats import FORMATS, file_encoder
from pipeline.audio.reference_audio import encode_wav
from pipeline.audio.wav import length_of_wav, read_wav
from pipeline.marking import manifest
from pipeline.marking.manifest import Credentials, InvalidCredentials, Origin, Signer, SigningFailed
from pipeline.provenance.certificates import self_signed
from tests.support.recordings import encoded_by_ffmpeg, tone
from tests.support.speech import voice

ORIGIN = Origin("0198" + "a" * 28, datetime(2026, 11, 2, 12, 30, tzinfo=UTC), "hibari-tts 0.2.1")
SPEECH = voice(120, seconds=3, sample_rate=24_000)
WAV = encode_wav(SPEECH)
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "m4a": "audio/mp4"}


@cache
def credentials(year: int = 2026) -> Credentials:
    """Return a self-signed certificate of this year."""
    stored = self_signed(datetime(year, 1, 1, tzinfo=UTC))
    return Credentials(stored.certificate, stored.private_key)


@cache
def audio(name: str) -> bytes:
    """Return speech in this format."""
    if name == "m4a":
        return encoded_by_ffmpeg(tone(2, rate=48_000), "ipod", "aac")
    encoder = file_encoder(FORMATS[name], 24_000)  # type: ignore[index]
    return encoder.encode(read_wav(WAV)[1]) + encoder.finish()


def signed(name: str) -> bytes:
    """Return speech in this format with a manifest."""
    return Signer(credentials()).sign(audio(name), MEDIA_TYPES[name], ORIGIN)


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_manifest_is_read_back(name: str) -> None:
    found = manifest.read(signed(name), MEDIA_TYPES[name])
    assert found is not None
    assert (found.origin, found.is_synthetic) == (ORIGIN, True)
    assert (found.is_valid, found.is_trusted) == (True, False)
    assert found.signer == "Voice cloning service (self-signed)"
    assert found.serial_number == Signer(credentials()).serial_number


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_changed_audio_has_invalid_manifest(name: str) -> None:
    body = bytearray(signed(name))
    body[len(body) // 2 if name != "mp3" else -500] ^= 0x55
    found = manifest.read(bytes(body), MEDIA_TYPES[name])
    assert found is not None
    assert not found.is_valid


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_audio_without_manifest(name: str) -> None:
    assert manifest.read(audio(name), MEDIA_TYPES[name]) is None


def test_manifest_issued_by_trust_anchor() -> None:
    found = manifest.read(signed("wav"), "audio/wav", credentials().certificate)
    assert found is not None
    assert (found.is_valid, found.is_trusted) == (True, True)
    other = manifest.read(signed("wav"), "audio/wav", credentials(2025).certificate)
    assert other is not None
    assert not other.is_trusted


def test_signed_wav_has_same_samples_and_length() -> None:
    body = signed("wav")
    assert read_wav(body) == read_wav(WAV)
    assert length_of_wav(body[:256]) == length_of_wav(WAV)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3"])
def test_libsndfile_reads_signed_file(name: str) -> None:
    samples, _ = sf.read(io.BytesIO(signed(name)))
    expected, _ = sf.read(io.BytesIO(audio(name)))
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.slow
@pytest.mark.skipif(which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("name", ["wav", "flac", "mp3"])
def test_ffmpeg_reads_signed_file(name: str) -> None:
    def decoded(body: bytes) -> bytes:
        command = ["ffmpeg", "-v", "error", "-i", "-", "-f", "s16le", "-"]
        return subprocess.run(command, input=body, capture_output=True, check=True).stdout

    assert decoded(signed(name)) == decoded(audio(name)) != b""


def test_signer_in_several_threads() -> None:
    signer = Signer(credentials())
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda _: signer.sign(WAV, "audio/wav", ORIGIN), range(40)))
    assert all(found.is_valid for body in bodies if (found := manifest.read(body, "audio/wav")))


def test_certificate_of_other_key_is_refused() -> None:
    with pytest.raises(InvalidCredentials):
        Signer(Credentials(credentials().certificate, credentials(2025).private_key))


def test_expired_certificate_is_refused() -> None:
    with pytest.raises(InvalidCredentials):
        Signer(credentials(2010))


@pytest.mark.parametrize("key", ["", "no key", "rsa"])
def test_unsuitable_private_key_is_refused(key: str) -> None:
    if key == "rsa":
        made = rsa.generate_private_key(65537, 2048)
        key = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(InvalidCredentials):
        Signer(Credentials(credentials().certificate, key))


def test_failed_time_stamp_service_is_omitted() -> None:
    made = credentials()
    signer = Signer(Credentials(made.certificate, made.private_key, "http://127.0.0.1:9/"))
    with capture_logs() as logs:
        found = manifest.read(signer.sign(WAV, "audio/wav", ORIGIN), "audio/wav")
    assert found is not None
    assert found.is_valid
    assert [entry["event"] for entry in logs] == ["time-stamp service failed"]


def test_damaged_file_is_not_signed() -> None:
    with pytest.raises(SigningFailed):
        Signer(credentials()).sign(b"no audio", "audio/wav", ORIGIN)


@pytest.mark.parametrize("body", [b"", b"RIFF", b"\xff" * 4000, WAV[:100]])
def test_damaged_file_has_no_manifest(body: bytes) -> None:
    assert manifest.read(body, "audio/wav") is None
