"""M4A, WebM and AAC files are decoded by FFmpeg, within limits of memory and time."""

import struct

import numpy as np
import pytest

from pipeline.audio import ffmpeg_decoder, formats
from pipeline.audio.reference_audio import SAMPLES_PER_SECOND_MAX, decode_reference
from pipeline.audio.wav_sizes import Truncated
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.support.recordings import encoded_by_ffmpeg, tone, with_bytes

pytest.importorskip("av")
SETTINGS = Settings()
RATE = 48_000
M4A = encoded_by_ffmpeg(tone(2, rate=RATE), "ipod", "aac")
WEBM = encoded_by_ffmpeg(tone(2, rate=RATE), "webm", "libopus")
ADTS = encoded_by_ffmpeg(tone(2, rate=RATE), "adts", "aac")


def refusal(data: bytes, settings: Settings = SETTINGS) -> str:
    with pytest.raises(InvalidAudio) as caught:
        decode_reference(data, settings)
    return caught.value.message


@pytest.mark.parametrize(
    ("container", "codec"),
    [("ipod", "aac"), ("ipod", "alac"), ("mp4", "aac"), ("webm", "libopus"), ("adts", "aac")],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_ffmpeg_formats(container: str, codec: str, channels: int) -> None:
    recording = decode_reference(
        encoded_by_ffmpeg(tone(2, rate=RATE, channels=channels), container, codec), SETTINGS
    )
    assert recording.sample_rate == RATE
    assert recording.duration_seconds == pytest.approx(2, abs=0.06)
    assert np.abs(recording.samples[RATE // 2 : RATE]).max() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("data", [M4A, WEBM, ADTS], ids=["m4a", "webm", "aac"])
def test_ffmpeg_file_cut_short(data: bytes, part: float) -> None:
    message = refusal(data[: int(len(data) * part)])
    assert "truncated" in message or "whole" in message


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("adts", "aac"), ("webm", "libopus")])
def test_ffmpeg_file_too_long(container: str, codec: str) -> None:
    data = encoded_by_ffmpeg(tone(5, rate=RATE), container, codec)
    assert "too long" in refusal(data, Settings(reference_max_seconds=3))


def test_ffmpeg_other_codec_is_refused() -> None:
    assert "can't be read" in refusal(encoded_by_ffmpeg(tone(2, rate=RATE), "mp4", "ac3"))


def test_ffmpeg_video_without_audio_is_refused() -> None:
    assert "can't be read" in refusal(b"\0\0\0\x20ftypisom" + bytes(1000))


@pytest.mark.parametrize(("box", "offset"), [(b"stsz", 8), (b"stts", 12), (b"stco", 8), (b"stsc", 16)])
def test_ffmpeg_huge_table_is_bounded(box: bytes, offset: int) -> None:
    data = with_bytes(M4A, M4A.index(box) + offset, struct.pack(">II", 1, 0x7FFFFFF0))
    try:
        wav = ffmpeg_decoder.to_wav(data, "mov", SETTINGS, max_samples_per_second=SAMPLES_PER_SECOND_MAX)
    except (InvalidAudio, Truncated):
        return
    assert len(wav) < 5 * RATE * 2


def test_ffmpeg_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg_decoder, "_BASE_MEMORY_BYTES", 60 * 1024 * 1024)
    assert "can't be read" in refusal(M4A)


def test_formats_without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "has_ffmpeg", lambda: False)
    assert "a WAV, FLAC, OGG or MP3 file" in refusal(M4A)
    with pytest.raises(ValueError, match=r"one of audio/wav, audio/flac, audio/ogg, audio/mpeg$"):
        formats.standard_content_type("audio/mp4")


@pytest.mark.parametrize(
    ("given", "standard"),
    [
        ("audio/wav", "audio/wav"),
        ("audio/x-wav", "audio/wav"),
        ("audio/wave", "audio/wav"),
        ("Audio/WAV; codecs=1", "audio/wav"),
        ("audio/mp3", "audio/mpeg"),
        ("audio/mpeg", "audio/mpeg"),
        ("application/ogg", "audio/ogg"),
        ("audio/ogg;codecs=opus", "audio/ogg"),
        ("audio/x-flac", "audio/flac"),
        ("audio/webm;codecs=opus", "audio/webm"),
        ("audio/x-m4a", "audio/mp4"),
        ("audio/mp4", "audio/mp4"),
        ("audio/aac", "audio/aac"),
    ],
)
def test_standard_content_type(given: str, standard: str) -> None:
    assert formats.standard_content_type(given) == standard


@pytest.mark.parametrize("given", ["", "text/html", "audio/*", "audio", "image/png", "audio/wavy"])
def test_standard_content_type_unknown(given: str) -> None:
    with pytest.raises(ValueError, match="should be one of audio/wav"):
        formats.standard_content_type(given)
