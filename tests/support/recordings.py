"""Recordings in various formats, for tests of decoding."""

import io
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray


def tone(
    seconds: float = 2.0, *, rate: int = 16_000, channels: int = 1, loudness: float = 0.5
) -> NDArray[np.float64]:
    """Return a hum at 180 Hz, of shape (frames, channels)."""
    wave = loudness * np.sin(2 * np.pi * 180 * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def encoded(
    samples: NDArray[np.float64] | None = None,
    format_: str = "WAV",
    subtype: str | None = None,
    rate: int = 16_000,
    **options: object,
) -> bytes:
    """Return samples of shape (frames, channels) as a file; two seconds of a tone by default."""
    samples = tone(rate=rate) if samples is None else samples
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", rate, samples.shape[1], format=format_, subtype=subtype, **options) as sound:
        sound.write(samples)
    return buffer.getvalue()


def encoded_by_ffmpeg(samples: NDArray[np.float64], container: str, codec: str, rate: int = 48_000) -> bytes:
    """Return samples of shape (frames, channels) in a format of FFmpeg."""
    import av

    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=rate, layout=layout)
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T, np.float32), "fltp", layout)
        frame.sample_rate = rate
        fifo.write(frame)
        while part := fifo.read(960, partial=True):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    """Return data with some bytes replaced."""
    return data[:at] + new + data[at + len(new) :]
