"""WAV: the format in which all audio is stored, mono with 16 bits.

This module imports no numpy, which is slow to load.
"""

import io
import struct
import wave
from dataclasses import dataclass, field

WAV = "audio/wav"

_UNKNOWN_SIZE = 0xFFFFFFFF  # the size that programs write in the header when they write to a pipe
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


@dataclass(frozen=True, slots=True)
class EncodedRecording:
    """A validated recording: mono 16-bit WAV."""

    wav: bytes = field(repr=False)
    duration_seconds: float


def length_of_wav(head: bytes) -> tuple[int, float]:
    """Return sample rate (Hz) and duration (seconds) from the first bytes of a WAV that `encode_wav` wrote."""
    with wave.open(io.BytesIO(head)) as sound:
        return sound.getframerate(), sound.getnframes() / sound.getframerate()


def read_wav(wav: bytes) -> tuple[int, bytes]:
    """Return sample rate (Hz) and samples of a WAV that `encode_wav` wrote: mono, 16 bits.

    Chunks after the samples, such as a manifest, are ignored.
    """
    _, _, _, _, _, _, _, sample_rate, _, _, _, _, size = _HEADER.unpack_from(wav)
    return sample_rate, wav[_HEADER.size : _HEADER.size + size]


def streamed_wav_header(sample_rate: int) -> bytes:
    """Return the header of a mono 16-bit WAV of unknown length."""
    return _header(sample_rate, _UNKNOWN_SIZE, _UNKNOWN_SIZE)


def wav_header(sample_rate: int, size: int) -> bytes:
    """Return the header of a mono 16-bit WAV with `size` bytes of samples."""
    return _header(sample_rate, _HEADER.size - 8 + size, size)


def _header(sample_rate: int, riff_size: int, data_size: int) -> bytes:
    rate = (sample_rate, 2 * sample_rate, 2, 16)
    return _HEADER.pack(b"RIFF", riff_size, b"WAVE", b"fmt ", 16, 1, 1, *rate, b"data", data_size)
