"""AAC encoding with FFmpeg, if PyAV is installed."""

import io

import numpy as np

from pipeline.errors import FormatNotInstalled

_BIT_RATE = 96_000


class AacEncoder:
    """Encoder of ADTS frames. See `pipeline.audio.output_formats.Encoder`."""

    def __init__(self, sample_rate: int) -> None:
        try:
            import av
        except ImportError as error:
            raise FormatNotInstalled("aac", "av") from error
        self._av = av
        self._buffer = io.BytesIO()
        self._container = av.open(self._buffer, "w", format="adts")
        self._stream = self._container.add_stream("aac", rate=sample_rate, layout="mono", bit_rate=_BIT_RATE)
        self._sample_rate = sample_rate
        self._samples = 0

    def encode(self, samples: bytes) -> bytes:
        """See `Encoder.encode`."""
        if samples:
            frame = self._av.AudioFrame.from_ndarray(
                np.frombuffer(samples, "<i2").reshape(1, -1), format="s16", layout="mono"
            )
            frame.sample_rate = self._sample_rate
            frame.pts = self._samples
            self._samples += frame.samples
            self._container.mux(self._stream.encode(frame))
        return self._written()

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._written()

    def _written(self) -> bytes:
        written = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return written
