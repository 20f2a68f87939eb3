"""Decoding and validation of recordings."""

import io
import struct
import time
import tracemalloc
from functools import cache

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.audio.reference_audio import Recording, decode_reference, decode_wav, encode_wav
from pipeline.audio.wav import length_of_wav
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.support.recordings import encoded, tone, with_bytes

RATE = 16_000
SETTINGS = Settings()


def flac_of_frames(data: bytes, frames: int) -> bytes:
    """Set the length in a FLAC's header (RFC 9639, section 8.2); 0: unknown."""
    at = 4 + 4 + 10 + 3
    return with_bytes(data, at, bytes([data[at] & 0xF0 | frames >> 32]) + struct.pack(">I", frames & 0xFFFFFFFF))


@cache
def minutes_of_silence(minutes: int, format_: str) -> bytes:
    buffer = io.BytesIO()
    minute = np.zeros(8000 * 60, np.float32)
    with sf.SoundFile(buffer, "w", 8000, 1, format=format_) as sound:
        for _ in range(minutes):
            sound.write(minute)
    return buffer.getvalue()


def refusal(data: bytes, settings_: Settings = SETTINGS) -> str:
    with pytest.raises(InvalidAudio) as caught:
        decode_reference(data, settings_)
    assert caught.value.field == "audio"
    return caught.value.message


@pytest.mark.parametrize(
    ("format_", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("WAV", "ALAW"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"),
        ("WAVEX", "PCM_16"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
    ],
)
def test_decode_formats(format_: str, subtype: str | None) -> None:
    recording = decode_reference(encoded(None, format_, subtype), SETTINGS)
    assert recording.sample_rate == RATE
    assert recording.samples.dtype == np.float32
    assert recording.duration_seconds == pytest.approx(2, abs=0.1)
    assert 0.3 < np.abs(recording.samples).max() <= 1


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_decode_keeps_sample_rate(rate: int) -> None:
    recording = decode_reference(encoded(rate=rate), SETTINGS)
    assert (recording.sample_rate, len(recording.samples)) == (rate, 2 * rate)


@pytest.mark.parametrize("rate", [1, 4000, 7999, 192_001, 384_000])
def test_decode_unusual_sample_rate(rate: int) -> None:
    message = refusal(encoded(tone(1.5, rate=max(rate, 1000)), rate=rate))
    assert f"{rate} Hz" in message
    assert "8000 to 192000 Hz" in message


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_equal_channels_keep_loudness(channels: int) -> None:
    recording = decode_reference(encoded(tone(channels=channels)), SETTINGS)
    assert recording.samples.ndim == 1
    assert np.abs(recording.samples).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("channels", [2, 3, 6, 8])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_single_active_channel(channels: int, subtype: str) -> None:
    samples = tone(channels=channels)
    samples[:, :-1] = 0.2  # a constant offset
    samples[:, 0] *= 0.01
    recording = decode_reference(encoded(samples, subtype=subtype), SETTINGS)
    assert np.abs(recording.samples).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("factor", [-1, -0.9, -0.5])
@pytest.mark.parametrize("format_", ["WAV", "FLAC"])
def test_opposite_phase_channels(factor: float, format_: str) -> None:
    samples = tone(3, rate=48_000, channels=2)
    samples[:, 1] *= factor
    recording = decode_reference(encoded(samples, format_, rate=48_000), SETTINGS)
    assert np.abs(recording.samples).max() == pytest.approx(0.5, abs=0.01)
    assert recording.duration_seconds == 3


def test_different_channels_are_mixed() -> None:
    samples = tone(channels=2)
    samples[:, 1] = 0.5 * np.cos(2 * np.pi * 300 * np.arange(len(samples)) / RATE)
    recording = decode_reference(encoded(samples, subtype="FLOAT"), SETTINGS)
    assert np.allclose(recording.samples, samples.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\0" * 100_000,
        b"<html><body>404 Not Found</body></html>",
        b"RIFF",
        b"RIFF\xff\xff\xff\xffWAVE",
        b"fLaC",
        b"OggS",
        b"OggS" + b"\0" * 22 + b"\xff",
        b"ID3\x04\0\0\0\0\0\0",
        b"FORM\0\0\0\x04AIFF",
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"\x00\x00\x00\x20ftypM4A " + bytes(1000),
        b"\x1aE\xdf\xa3" + bytes(1000),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_decode_not_audio(data: bytes) -> None:
    assert "WAV, FLAC, OGG, MP3, M4A, WebM or AAC" in refusal(data)


def test_decode_empty_file() -> None:
    assert "empty" in refusal(b"")


@pytest.mark.parametrize(
    ("format_", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
    ],
)
@pytest.mark.parametrize("part", [0.4, 0.6, 0.8])
def test_decode_truncated_file(format_: str, subtype: str | None, part: float) -> None:
    whole = encoded(tone(4), format_, subtype)
    message = refusal(whole[: int(len(whole) * part)])
    assert "truncated" in message or "whole" in message


def test_decode_flac_of_unknown_length() -> None:
    piped = flac_of_frames(encoded(tone(2.5), "FLAC"), 0)
    assert decode_reference(piped, SETTINGS).duration_seconds == 2.5


def test_decode_wav_with_other_chunks() -> None:
    plain = encoded()
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx" + b"\0"
    chunky = plain[:12] + odd + plain[12:] + odd
    chunky = with_bytes(chunky, 4, struct.pack("<I", len(chunky) - 8))
    assert decode_reference(chunky, SETTINGS).duration_seconds == 2


@pytest.mark.parametrize("format_", ["WAV", "RF64"])
def test_decode_without_samples(format_: str) -> None:
    assert "no samples" in refusal(encoded(tone(0), format_))


def test_decode_too_short() -> None:
    message = refusal(encoded(tone(0.99)))
    assert "0.99 s" in message
    assert "too short" in message
    assert "1 to 60 s" in message


@pytest.mark.parametrize("seconds", [1.0, 60.0])
def test_decode_length_limits(seconds: float) -> None:
    assert decode_reference(encoded(tone(seconds)), SETTINGS).duration_seconds == seconds


def test_decode_too_long() -> None:
    message = refusal(encoded(tone(60.1)))
    assert "60.1 s" in message
    assert "too long" in message


def test_length_limits_are_settings() -> None:
    strict = Settings(reference_min_seconds=3, reference_max_seconds=4)
    assert "3 to 4 s" in refusal(encoded(tone(2)), strict)
    assert "3 to 4 s" in refusal(encoded(tone(5)), strict)
    assert decode_reference(encoded(tone(3.5)), strict).duration_seconds == 3.5


@pytest.mark.parametrize(("format_", "minutes"), [("FLAC", 60), ("OGG", 3), ("MP3", 3)])
def test_too_long_is_refused_from_header(format_: str, minutes: int) -> None:
    data = minutes_of_silence(minutes, format_)
    tracemalloc.start()
    message = refusal(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"{60 * minutes}." in message
    assert peak < len(data) + 1_000_000  # the samples need more


def test_too_long_without_header() -> None:
    data = flac_of_frames(minutes_of_silence(60, "FLAC"), 0)
    tracemalloc.start()
    message = refusal(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "too long" in message
    assert peak < 60 * 8000 * 4 * 2


def test_decode_flac_shorter_than_header() -> None:
    assert "truncated" in refusal(flac_of_frames(encoded(None, "FLAC"), 30 * RATE))


def test_decode_flac_longer_than_header() -> None:
    assert "too short" in refusal(flac_of_frames(encoded(None, "FLAC"), 10))


@pytest.mark.parametrize("samples", [tone(loudness=0), tone(loudness=0.0005), tone(loudness=0) + 0.5])
def test_decode_silence(samples: NDArray[np.float64]) -> None:
    assert "silent" in refusal(encoded(samples, subtype="FLOAT"))


def test_decode_whisper() -> None:
    assert decode_reference(encoded(tone(loudness=0.002)), SETTINGS).duration_seconds == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_decode_not_finite(bad: float, channels: int) -> None:
    samples = tone(channels=channels)
    samples[100] = bad
    samples[200, channels - 1] = -bad
    assert "finite" in refusal(encoded(samples, subtype="FLOAT"))


def test_decode_opposite_infinities() -> None:
    samples = tone(channels=2)
    samples[:, 0], samples[:, 1] = np.inf, -np.inf
    assert "finite" in refusal(encoded(samples, subtype="FLOAT"))


def test_decode_beyond_float32() -> None:
    assert "finite" in refusal(encoded(tone() * 1e300, subtype="DOUBLE"))
    assert "finite" in refusal(encoded(tone(channels=2) * 6e38, subtype="FLOAT"))


def test_decode_beyond_full_scale() -> None:
    recording = decode_reference(encoded(tone(loudness=40), subtype="FLOAT"), SETTINGS)
    assert np.abs(recording.samples).max() == pytest.approx(1)


def test_encode_wav_round_trip() -> None:
    recording = Recording(tone(1.5)[:, 0].astype(np.float32), RATE)
    body = encode_wav(recording)
    back = decode_wav(body)
    assert back.sample_rate == RATE
    assert np.abs(back.samples - recording.samples).max() < 1e-4
    assert length_of_wav(body[:200]) == (RATE, 1.5)
    with sf.SoundFile(io.BytesIO(body)) as sound:
        assert (sound.format, sound.subtype, sound.channels) == ("WAV", "PCM_16", 1)


@pytest.mark.parametrize(
    "body",
    [b"rubbish", encoded(tone(channels=2)), encoded(subtype="FLOAT"), encoded(format_="FLAC")],
    ids=["no audio", "stereo", "floats", "FLAC"],
)
def test_decode_wav_other_format(body: bytes) -> None:
    with pytest.raises(InvalidAudio, match="Upload it again"):
        decode_wav(body)


WHOLE: dict[str, bytes] = {
    name: encoded(tone(1.2, rate=8000), name, rate=8000) for name in ("WAV", "FLAC", "OGG", "MP3", "RF64")
}


def check_decoded_or_refused(data: bytes) -> None:
    began = time.process_time()
    try:
        recording = decode_reference(data, SETTINGS)
    except InvalidAudio:
        pass
    else:
        assert np.isfinite(recording.samples).all()
        assert 1 <= recording.duration_seconds <= 60
    assert time.process_time() - began < 2


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from([b"", b"RIFF", b"RIFX", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"FORM", b"caff"]), st.binary()
)
def test_decode_random_bytes(magic: bytes, rest: bytes) -> None:
    check_decoded_or_refused(magic + rest)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_decode_damaged_headers(name: str, damage: list[tuple[int, int]], part: float) -> None:
    data = bytearray(WHOLE[name])
    for at, value in damage:
        data[at] = value
    check_decoded_or_refused(bytes(data))
    check_decoded_or_refused(bytes(data[: int(len(data) * part)]))
