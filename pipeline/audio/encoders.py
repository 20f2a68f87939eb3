"""FLAC, MP3 and Ogg Opus encoding with libsndfile."""

import io
from typing import Any

import numpy as np
import soundfile as sf

_KINDS: dict[str, dict[str, Any]] = {
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    # Constant bit rate, so that players can compute positions in an incomplete file: 128 kbit/s at 24 kHz.
    "mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "bitrate_mode": "CONSTANT",
        "compression_level": 0.2,
    },
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
_SET_OGG_PAGE_LATENCY_MS = 0x1302  # SFC_SET_OGG_PAGE_LATENCY_MS of sndfile.h, which soundfile does not wrap
_PAGE_LATENCY_MS = 60.0
_MP3_HEADER_BYTES = 4
_LAME_SCALE = 0.95


def _scaled(name: str, samples: bytes) -> "np.typing.NDArray[Any]":
    """Return the samples to write, scaled to compensate for LAME, which attenuates constant-rate audio."""
    integers = np.frombuffer(samples, "<i2")
    return integers.astype(np.float32) / (32768 * _LAME_SCALE) if name == "mp3" else integers


class SoundFileWriter:
    """Encoder of a complete file. Its length is exact to the sample for decoders that read the header."""

    def __init__(self, name: str, sample_rate: int) -> None:
        self._name = name
        self._file = io.BytesIO()
        self._sound = sf.SoundFile(self._file, "w", sample_rate, 1, **_KINDS[name])

    def encode(self, samples: bytes) -> bytes:
        """Write samples. The file is returned by `finish`."""
        self._sound.write(_scaled(self._name, samples))
        return b""

    def finish(self) -> bytes:
        """Return the file."""
        self._sound.close()
        return self._file.getvalue()


class SoundFileEncoder:
    """See `pipeline.audio.output_formats.Encoder`."""

    def __init__(self, name: str, sample_rate: int) -> None:
        self._name = name
        self._sink = _Sink()
        self._skips_first_frame = name == "mp3"
        self._sound = sf.SoundFile(self._sink, "w", sample_rate, 1, **_KINDS[name])
        if name == "opus":
            latency = sf._ffi.new("double *", _PAGE_LATENCY_MS)
            sf._snd.sf_command(self._sound._file, _SET_OGG_PAGE_LATENCY_MS, latency, 8)

    def encode(self, samples: bytes) -> bytes:
        """See `Encoder.encode`."""
        self._sound.write(_scaled(self._name, samples))
        return self._written()

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        self._sound.close()
        return self._written()

    def _written(self) -> bytes:
        written = self._sink.take()
        if not self._skips_first_frame or not written:
            return written
        # The first frame is a placeholder for the length, which is never known here.
        self._skips_first_frame = False
        second = written.find(written[:2], _MP3_HEADER_BYTES)
        return written[second:] if second > 0 else b""


class _Sink:
    """An append-only file. Writes to earlier positions are dropped, as those bytes were sent already."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._position = 0
        self._end = 0

    def take(self) -> bytes:
        """Return the bytes that were appended since the last call."""
        taken = bytes(self._pending)
        self._pending.clear()
        return taken

    def write(self, data: Any) -> int:
        """See `io.RawIOBase`."""
        size = len(data)
        if self._position == self._end:
            self._pending += data
            self._end += size
        self._position += size
        return size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.RawIOBase`."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self._position

    def read(self, _size: int = -1) -> bytes:
        """See `io.RawIOBase`."""
        return b""
