"""The formats in which audio is returned; it is always stored as WAV.

Nothing here needs numpy: encoders that do are imported when they are needed.
"""

import struct
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

FormatName = Literal["wav", "flac", "mp3", "opus", "aac", "pcm"]
NAMES: tuple[FormatName, ...] = get_args(FormatName)

_UNKNOWN_SIZE = 0xFFFFFFFF  # the size that programs write in the header when they write to a pipe
_WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format; its name is also its file extension."""

    name: FormatName
    media_type: str


FORMATS: dict[FormatName, OutputFormat] = {
    "wav": OutputFormat("wav", "audio/wav"),
    "flac": OutputFormat("flac", "audio/flac"),
    "mp3": OutputFormat("mp3", "audio/mpeg"),
    "opus": OutputFormat("opus", "audio/ogg"),
    "aac": OutputFormat("aac", "audio/aac"),
    "pcm": OutputFormat("pcm", "audio/pcm"),
}


class Encoder(Protocol):
    """Incremental encoder of mono 16-bit samples; its output can be played before it is complete."""

    def encode(self, samples: bytes) -> bytes:
        """Encode little-endian samples; return the bytes of the file that were added since the last call."""

    def finish(self) -> bytes:
        """Return the rest of the file."""


def encoder(format_: OutputFormat, sample_rate: int) -> Encoder:
    """Create the encoder of a format.

    Raises
    ------
    FormatNotInstalled
        It needs a library that is not installed.
    """
    if format_.name == "pcm":
        return _Raw(b"")
    if format_.name == "wav":
        return _Raw(streamed_wav_header(sample_rate))
    if format_.name == "aac":
        from pipeline.audio.aac_encoder import AacEncoder

        return AacEncoder(sample_rate)
    from pipeline.audio.encoders import SoundFileEncoder

    return SoundFileEncoder(format_.name, sample_rate)


def transcode(wav: bytes, format_: OutputFormat) -> bytes:
    """Convert a stored WAV to a complete file; needs CPU time for all formats except `wav` and `pcm`.

    Raises
    ------
    FormatNotInstalled
        It needs a library that is not installed.
    """
    if format_.name == "wav":
        return wav
    sample_rate, samples = read_wav(wav)
    if format_.name in {"flac", "mp3", "opus"}:
        from pipeline.audio.encoders import encode_file

        return encode_file(format_.name, sample_rate, samples)
    made = encoder(format_, sample_rate)
    return made.encode(samples) + made.finish()


def read_wav(wav: bytes) -> tuple[int, bytes]:
    """Return sample rate (Hz) and samples of a WAV that `encode_wav` wrote: mono, 16 bits."""
    _, _, _, _, _, _, _, sample_rate, *_ = _WAV_HEADER.unpack_from(wav)
    return sample_rate, wav[_WAV_HEADER.size :]


def streamed_wav_header(sample_rate: int) -> bytes:
    """Return the header of a mono 16-bit WAV whose length is not known yet."""
    rate = (sample_rate, 2 * sample_rate, 2, 16)
    return _WAV_HEADER.pack(b"RIFF", _UNKNOWN_SIZE, b"WAVE", b"fmt ", 16, 1, 1, *rate, b"data", _UNKNOWN_SIZE)


class _Raw:
    """Unencoded samples, after a header."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def encode(self, samples: bytes) -> bytes:
        """See `Encoder.encode`."""
        header, self._header = self._header, b""
        return header + samples

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        return self.encode(b"")
