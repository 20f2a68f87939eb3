"""MP3 files of unknown, wrong and joined lengths are decoded completely."""

import struct
import time
from contextlib import suppress
from functools import cache

import pytest

from pipeline.audio.mp3_frames import NoFrames, prepare
from pipeline.audio.reference_audio import decode_reference
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.support.recordings import encoded, tone, with_bytes

SETTINGS = Settings()
SECONDS = 3.07
RATES = [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000]


@cache
def mp3(rate: int = 44_100, channels: int = 1, mode: str = "VARIABLE", seconds: float = SECONDS) -> bytes:
    samples = tone(seconds, rate=rate, channels=channels)
    return encoded(samples, "MP3", rate=rate, bitrate_mode=mode, compression_level=0.5)


def without_header(data: bytes) -> bytes:
    """Remove the frame with the number of frames, as encoders write to a pipe."""
    return prepare(data, 1000).parts[0].data[first_length(data) :]


def first_length(data: bytes) -> int:
    second = data.index(data[:2], 4)
    while data[second + 2] & 0x0C != data[2] & 0x0C:
        second = data.index(data[:2], second + 1)
    return second


def seconds_of(data: bytes) -> float:
    return decode_reference(data, SETTINGS).duration_seconds


def info_at(data: bytes) -> int:
    return max(data.find(b"Xing"), data.find(b"Info"))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
def test_mp3_without_header(rate: int, channels: int, mode: str) -> None:
    data = without_header(mp3(rate, channels, mode))
    assert info_at(data) < 0
    assert seconds_of(data) == pytest.approx(SECONDS, abs=0.2)


@pytest.mark.parametrize("rate", RATES)
def test_mp3_with_header_is_exact(rate: int) -> None:
    assert seconds_of(mp3(rate)) == pytest.approx(SECONDS, abs=1 / rate)


@pytest.mark.parametrize(("flags", "frames"), [(0, 0), (1, 0), (1, 5), (0, 9999)])
def test_mp3_with_unusable_header(flags: int, frames: int) -> None:
    data = mp3()
    broken = with_bytes(data, info_at(data) + 4, struct.pack(">II", flags, frames))
    assert seconds_of(broken) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize(
    "between", [b"", b"TAG" + bytes(125), b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), bytes(1000), b"x" * 99]
)
@pytest.mark.parametrize("has_header", [True, False])
def test_mp3_concatenated(between: bytes, has_header: bool) -> None:
    one = mp3() if has_header else without_header(mp3())
    assert seconds_of(one + between + one + between + one) == pytest.approx(3 * SECONDS, abs=0.2)


def test_mp3_concatenated_mono_and_stereo() -> None:
    assert seconds_of(mp3() + mp3(channels=2)) == pytest.approx(2 * SECONDS, abs=0.2)


def test_mp3_concatenated_rates_are_refused() -> None:
    with pytest.raises(InvalidAudio, match="sample rates 44100 and 48000 Hz"):
        seconds_of(mp3() + mp3(48_000))


@pytest.mark.parametrize("padding", [b"\0", bytes(4000)])
def test_mp3_padding(padding: bytes) -> None:
    assert seconds_of(padding + mp3() + padding) == pytest.approx(SECONDS, abs=0.1)
    assert seconds_of(padding + without_header(mp3()) + padding) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize(
    "tail", [b"TAG" + bytes(125), b"APETAGEX" + struct.pack("<IIII", 2000, 64, 1, 0) + bytes(72), b"\xff\xfb" * 500]
)
def test_mp3_trailing_bytes(tail: bytes) -> None:
    assert seconds_of(mp3() + tail) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("missing", [1, 10, 50])
def test_mp3_last_frame_incomplete(missing: int) -> None:
    assert seconds_of(mp3()[:-missing]) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_mp3_beginning_within_frame(cut: int) -> None:
    assert seconds_of(without_header(mp3())[cut:]) == pytest.approx(SECONDS, abs=0.2)
    assert seconds_of(b"junk" * cut + mp3()) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_mp3_truncated(part: float) -> None:
    with pytest.raises(InvalidAudio, match="truncated"):
        seconds_of(mp3()[: int(len(mp3()) * part)])


def test_mp3_too_long() -> None:
    for data in (mp3(8_000, seconds=70), without_header(mp3(8_000, seconds=70)), mp3(seconds=31) * 2):
        with pytest.raises(InvalidAudio, match="too long"):
            seconds_of(data)


def test_mp3_of_longest_duration() -> None:
    assert seconds_of(mp3(16_000, seconds=60)) == pytest.approx(60, abs=0.001)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfb" * 1_000_000,
        b"\xff\xfb\x90\x64" * 500_000,
        b"ID3\x03\0\0\0\0\0\0" * 300_000,
        b"ID3" + b"TAG" * 1_000_000,
        b"\xff\xf3\x14\xc4" + bytes(2_000_000),
        b"ID3" + b"\xff\xfa\x14\xc4x" * 400_000,
    ],
)
def test_mp3_false_frames_take_bounded_time(data: bytes) -> None:
    began = time.process_time()
    with suppress(NoFrames):
        assert prepare(data, 60).parts[0].seconds > 60
    assert time.process_time() - began < 1
