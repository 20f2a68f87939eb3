"""The memory of decoding is bounded, for one upload and for concurrent uploads."""

import asyncio
import struct
import subprocess
import sys

import pytest

from pipeline.audio.reference_audio import decode_reference, encode_wav
from pipeline.domain import sessions
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.support.fake_service import FakeService, reference_recording

# Decodes stdin and prints the growth of the peak memory in MiB.
GROWTH = """
import pathlib, re, sys
from pipeline.audio.reference_audio import decode_reference, transcode_reference
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.support.speech import voice_wav
decode_reference(voice_wav(120), Settings())
def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
data = sys.stdin.buffer.read()
before = peak_kib()
try:
    transcode_reference(data, Settings())
except InvalidAudio as error:
    print(error, file=sys.stderr)
print((peak_kib() - before) // 1024)
"""


measured = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def growth_mib(data: bytes) -> tuple[int, str]:
    """Decode in a separate process.  Return the growth of its peak memory in MiB, and the error."""
    done = subprocess.run([sys.executable, "-c", GROWTH], input=data, capture_output=True, check=True, timeout=60)
    return int(done.stdout), done.stderr.decode()


def wav_of(channels: int, rate: int, frames: int = 1) -> bytes:
    """Return a 16-bit WAV of noise."""
    samples = bytes(range(1, 255, 2)) * (channels * frames * 2 // 127 + 1)
    data = samples[: channels * frames * 2]
    format_ = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt \x10\0\0\0" + format_ + b"data"
        + struct.pack("<I", len(data)) + data
    )  # fmt: skip


@measured
def test_many_channels_use_little_memory() -> None:
    upload = wav_of(channels=1024, rate=192_000)
    assert len(upload) < 2200
    growth, error = growth_mib(upload)
    assert "1024 channels" in error
    assert growth < 20


@measured
def test_longest_recording_memory_is_bounded() -> None:
    growth, error = growth_mib(wav_of(channels=1, rate=192_000, frames=60 * 192_000))
    assert error == ""
    assert growth < 130


@pytest.mark.parametrize(("channels", "rate"), [(9, 8_000), (1024, 8_000), (3, 192_000), (8, 96_000)])
def test_excessive_sample_rate_is_refused(channels: int, rate: int) -> None:
    with pytest.raises(InvalidAudio, match=f"{channels} channels"):
        decode_reference(wav_of(channels, rate, frames=rate), Settings())


@pytest.mark.parametrize(("channels", "rate"), [(2, 192_000), (8, 48_000)])
def test_recorder_formats_are_decoded(channels: int, rate: int) -> None:
    assert decode_reference(wav_of(channels, rate, frames=rate), Settings()).duration_seconds == 1


async def test_concurrent_decodes_are_limited() -> None:
    fakes = FakeService(Settings(decodes_at_once=2))
    reading, most = 0, 0

    async def read() -> bytes:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0.01)
        reading -= 1
        return encode_wav(reference_recording())

    checked = await asyncio.gather(*(sessions.check_reference(fakes.resources, read) for _ in range(8)))
    assert most == 2
    assert [recording.duration_seconds for recording in checked] == [2] * 8


async def test_refused_upload_frees_decode_slot() -> None:
    fakes = FakeService(Settings(decodes_at_once=1))

    async def read() -> bytes:
        return b"no audio"

    for _ in range(3):
        with pytest.raises(InvalidAudio):
            await sessions.check_reference(fakes.resources, read)
