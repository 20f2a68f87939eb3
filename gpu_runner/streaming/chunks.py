"""Splits a job's audio into the chunks that are streamed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.audio.reference_audio import Samples

FIRST_CHUNKS_SECONDS = (0.08, 0.08, 0.16)  # short, so that playback starts early
CHUNK_SECONDS = 0.32


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples of a stream. `end` is the number of samples up to and including its last."""

    seq: int
    samples: Samples
    end: int


class Chunks:
    """Splits audio at fixed samples, independent of its pieces: so chunks of equal audio are equal."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._samples: Samples = np.zeros(0, np.float32)
        self._seq = 0
        self._end = 0

    def add(self, samples: Samples) -> Iterator[Chunk]:
        """Yield the chunks that are complete with these samples."""
        self._samples = np.concatenate([self._samples, samples])
        while len(self._samples) >= (size := self._size()):
            yield self._cut(size)

    def flush(self) -> Iterator[Chunk]:
        """Yield the remaining samples, if any."""
        if len(self._samples):
            yield self._cut(len(self._samples))

    def _cut(self, size: int) -> Chunk:
        chunk, self._samples = self._samples[:size], self._samples[size:]
        self._end += size
        self._seq += 1
        return Chunk(self._seq - 1, chunk, self._end)

    def _size(self) -> int:
        seconds = FIRST_CHUNKS_SECONDS[self._seq] if self._seq < len(FIRST_CHUNKS_SECONDS) else CHUNK_SECONDS
        return round(seconds * self._sample_rate)


def to_pcm(samples: Samples) -> bytes:
    """Return the samples as in the stored WAV, little-endian, 16 bits: the upper half of libsndfile's 32 bits."""
    scaled = np.rint(samples * np.float32(2**31))
    scaled *= np.float32(2**-16)
    np.clip(np.floor(scaled, out=scaled), -32768, 32767, out=scaled)
    pcm: bytes = scaled.astype("<i2").tobytes()
    return pcm
