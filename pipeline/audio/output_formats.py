"""The formats in which audio is returned. Audio is always stored as WAV.

Nothing here needs numpy: encoders that do are imported when they are needed.
"""

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from pipeline.audio.wav import streamed_wav_header, wav_header
from pipeline.errors import FormatNotInstalled

if TYPE_CHECKING:
    from pipeline.audio.tempo import TempoChange

FormatName = Literal["wav", "flac", "mp3", "opus", "aac", "pcm"]
SLOWEST, FASTEST = 0.25, 4.0  # speeds
NAMES: tuple[FormatName, ...] = get_args(FormatName)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format. Its name is also its file extension.  `speed` shortens the audio without changing its pitch."""

    name: FormatName
    media_type: str
    speed: float = 1.0

    @property
    def is_as_stored(self) -> bool:
        """Whether it is the stored format, without conversion."""
        return self.name == "wav" and self.speed == 1

    @property
    def needs_encoding(self) -> bool:
        """Whether it takes more than negligible CPU time."""
        return self.name not in {"wav", "pcm"} or self.speed != 1


FORMATS: dict[FormatName, OutputFormat] = {
    "wav": OutputFormat("wav", "audio/wav"),
    "flac": OutputFormat("flac", "audio/flac"),
    "mp3": OutputFormat("mp3", "audio/mpeg"),
    "opus": OutputFormat("opus", "audio/ogg"),
    "aac": OutputFormat("aac", "audio/aac"),
    "pcm": OutputFormat("pcm", "audio/pcm"),
}


class Encoder(Protocol):
    """Incremental encoder of mono 16-bit samples. Its output can be played before it is complete."""

    def encode(self, samples: bytes) -> bytes:
        """Encode little-endian samples. Return the bytes of the file that were added since the last call."""

    def finish(self) -> bytes:
        """Return the rest of the file."""


def encoder(format_: OutputFormat, sample_rate: int) -> Encoder:
    """Create the encoder of a format.

    Raises
    ------
    FormatNotInstalled
        It needs a library that is not installed.
    """
    return _at_speed(format_, sample_rate, _encoder(format_.name, sample_rate))


def _encoder(name: FormatName, sample_rate: int) -> Encoder:
    if name == "pcm":
        return _Raw(b"")
    if name == "wav":
        return _Raw(streamed_wav_header(sample_rate))
    if name == "aac":
        from pipeline.audio.aac_encoder import AacEncoder

        return AacEncoder(sample_rate)
    from pipeline.audio.encoders import SoundFileEncoder

    return SoundFileEncoder(name, sample_rate)


def check_installed(format_: OutputFormat) -> None:
    """Raise an error if a format can't be made here, before anything is made for it.

    Raises
    ------
    FormatNotInstalled
        It needs a library that is not installed.
    """
    if (format_.name == "aac" or format_.speed != 1) and importlib.util.find_spec("av") is None:
        raise FormatNotInstalled("aac" if format_.name == "aac" else "A speed other than 1", "av")


def file_encoder(format_: OutputFormat, sample_rate: int) -> Encoder:
    """Create the encoder of a complete file, whose header contains its length if the format has one.

    Its output may be returned by `finish` only.

    Raises
    ------
    FormatNotInstalled
        It needs a library that is not installed.
    """
    if format_.name == "wav":
        encoder_: Encoder = _WavFile(sample_rate)
    elif format_.name in {"flac", "mp3", "opus"}:
        from pipeline.audio.encoders import SoundFileWriter

        encoder_ = SoundFileWriter(format_.name, sample_rate)
    else:
        encoder_ = _encoder(format_.name, sample_rate)
    return _at_speed(format_, sample_rate, encoder_)


def _at_speed(format_: OutputFormat, sample_rate: int, encoder_: Encoder) -> Encoder:
    if format_.speed == 1:
        return encoder_
    from pipeline.audio.tempo import TempoChange

    return _AtAnotherTempo(TempoChange(sample_rate, format_.speed), encoder_)


class _AtAnotherTempo:
    """An encoder that changes the tempo first."""

    def __init__(self, tempo: "TempoChange", encoder_: Encoder) -> None:
        self._tempo = tempo
        self._encoder = encoder_

    def encode(self, samples: bytes) -> bytes:
        """See `Encoder.encode`."""
        return self._encoder.encode(self._tempo.change(samples))

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        return self._encoder.encode(self._tempo.finish()) + self._encoder.finish()


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


class _WavFile:
    """A complete WAV file."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._parts: list[bytes] = []

    def encode(self, samples: bytes) -> bytes:
        """See `Encoder.encode`."""
        self._parts.append(samples)
        return b""

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        samples = b"".join(self._parts)
        return wav_header(self._sample_rate, len(samples)) + samples
