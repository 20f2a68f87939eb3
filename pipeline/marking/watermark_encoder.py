"""Adds the watermark to audio while it is generated.

The watermark is a difference below 2 kHz, which is added to the unchanged samples. It does not depend on how the
audio is split into pieces: frames are processed in blocks of fixed position and size, because the rounding of a
matrix product depends on its shape. A frame needs the 150 ms after it, and half a window of 64 ms.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from pipeline.marking.watermark_network import (
    BINS,
    CONTEXT,
    MASK,
    Array,
    Frames,
    Spectra,
    activation,
    gains,
    layers_of,
)

# Sizes of the blocks in frames of 10 ms. The last size is repeated.
# Each of these completes a chunk of a stream: the chunks end at 80, 160, 320, 640, 960 ms and so on.
_SIZES = (27, 8, 16, 32)
DELAY = 5 * CONTEXT

_NONE: Array = np.zeros(0, np.float32)


class WatermarkEncoder:
    """Marks the mono samples of one utterance, in order.

    Parameters
    ----------
    sample_rate
        A multiple of 100.

    Raises
    ------
    PackageMissing
        `resemble-perth` is not installed.
    ValueError
        The sample rate is not a multiple of 100.
    """

    def __init__(self, sample_rate: int) -> None:
        self._frames = Frames.at(sample_rate)
        self._half = self._frames.length // 2
        self._network = _StreamedNetwork()
        self._overlap = _OverlapAdd(self._frames)
        self._sizes = chain(_SIZES, repeat(_SIZES[-1]))
        self._size = next(self._sizes)
        self._input = _NONE
        """Samples from the start of the next frame, which is half a frame before its centre."""
        self._pending = _NONE
        """Samples that were not returned yet."""
        self._received = 0
        self._next = 0
        """The next frame. Frame n is centred at sample n * hop."""
        self._loudest = np.float32(0)
        self._spectra: Spectra = np.zeros((DELAY, BINS), np.complex64)
        """Spectra of the frames that the network has not returned yet. Masked ones are zero."""

    def add(self, samples: Array) -> Array:
        """Add the next samples, float32. Return the marked samples that are complete, possibly none."""
        sizes = self._receive(samples)
        return self._run(sizes) if sizes else self._pending[:0]

    def finish(self, samples: Array = _NONE) -> Array:
        """Add the last samples. Return the remaining marked samples."""
        sizes = self._receive(samples)
        if self._received == 0:
            return self._pending
        before = 0 if self._received > self._half else self._half
        self._input = np.pad(self._input, (before, self._half), mode="reflect")
        hop = self._frames.hop
        last = DELAY - (-(self._received + self._half) // hop)
        count = last - self._next
        self._input = np.pad(self._input, (0, max(0, self._frames.span(count) - len(self._input))))
        return self._run([*sizes, count - sum(sizes)], total=1 + self._received // hop)

    def _receive(self, samples: Array) -> Sequence[int]:
        """Add samples to the input. Return the sizes of the next blocks that it completes."""
        was_framed = self._received > self._half
        self._received += len(samples)
        self._pending = np.concatenate([self._pending, samples])
        self._input = np.concatenate([self._input, samples])
        if self._received <= self._half:
            return []
        if not was_framed:
            self._input = np.pad(self._input, (self._half, 0), mode="reflect")
        return list(self._complete_blocks())

    def _complete_blocks(self) -> Iterator[int]:
        """Return the sizes of the next blocks that the input completes."""
        count = self._size
        while len(self._input) >= self._frames.span(count):
            yield self._size
            self._size = next(self._sizes)
            count += self._size

    def _run(self, sizes: Sequence[int], total: int = sys.maxsize) -> Array:
        """Analyse the next blocks. Return the samples that these complete. `total` is the number of all frames."""
        hop, first, size = self._frames.hop, self._next - DELAY, sum(sizes)
        spectra = self._frames.spectra(self._input[: self._frames.span(size)])
        levels = self._frames.levels(spectra)
        self._spectra = np.concatenate([self._spectra, spectra[:, :BINS] * self._unmasked(levels)])
        factors = gains(self._network.run(levels[:, :BINS], sizes, self._next, total)) - 1
        exist = _exist(first, size, total)
        difference = self._overlap.add(self._spectra[:size] * factors * exist[:, None], exist)
        difference = difference[max(0, self._half - first * hop) :]  # from the first sample of the audio
        samples = self._pending[: len(difference)]
        self._input, self._spectra = self._input[size * hop :], self._spectra[size:]
        self._pending = self._pending[len(samples) :]
        self._next += size
        return samples + difference[: len(samples)]

    def _unmasked(self, levels: Array) -> NDArray[np.bool_]:
        """Return which frames are not silent, in relation to the loudest one so far. Shape [frames, 1]."""
        sums = levels.sum(axis=1, keepdims=True)
        loudest = np.maximum(np.maximum.accumulate(sums), self._loudest)
        self._loudest = loudest[-1, 0]
        unmasked: NDArray[np.bool_] = sums > MASK * loudest
        return unmasked


class _StreamedNetwork:
    """The encoder's network over consecutive blocks of frames."""

    def __init__(self) -> None:
        self._layers = layers_of("encoder.layers")
        self._contexts = [np.zeros((2 * CONTEXT, len(layer.bias)), np.float32) for layer in self._layers[:-2]]

    def run(self, levels: Array, sizes: Sequence[int], first: int, total: int) -> Array:
        """Return the differences of levels [frames, bins] for the same number of frames, `DELAY` frames earlier.

        One layer after the other processes the blocks of these sizes, so that its weights stay in the cache.
        """
        hidden = activation(self._convolve(0, levels, sizes, first, total))
        for number, context in enumerate(self._contexts, start=1):
            inputs = np.concatenate([context, hidden])
            self._contexts[number - 1] = inputs[-2 * CONTEXT :]
            hidden = activation(self._convolve(number, inputs, sizes, first - number * CONTEXT, total))
        return self._convolve(-1, hidden, sizes, 0, sys.maxsize)

    def _convolve(self, number: int, frames: Array, sizes: Sequence[int], first: int, total: int) -> Array:
        """Return the output [frames, outputs] of a layer from frame `first`: zero for frames that do not exist."""
        layer = self._layers[number]
        result = np.zeros((sum(sizes), len(layer.bias)), np.float32)
        for begin, end in pairwise(accumulate(sizes, initial=0)):
            start, stop = max(begin, -first), min(end, total - first)
            if start < stop:
                result[start:stop] = layer(frames[start : stop + layer.width - 1])
        return result


class _OverlapAdd:
    """The inverse of the spectrogram."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._power = frames.window**2
        self._sums: Array = np.zeros((2, frames.length - frames.hop), np.float32)
        """Sums of the frames so far and of the squares of their windows."""

    def add(self, spectra: Spectra, exist: NDArray[np.bool_]) -> Array:
        """Add the next frames, of which some may not exist. Return the samples that no later frame changes."""
        hop, window = self._frames.hop, self._frames.window
        complete = len(spectra) * hop
        sums = np.concatenate([self._sums, np.zeros((2, complete), np.float32)], axis=1)
        for start, frame, exists in zip(range(0, complete, hop), self._frames.samples(spectra), exist, strict=True):
            if exists:
                sums[0, start : start + len(window)] += frame
                sums[1, start : start + len(window)] += self._power
        self._sums = sums[:, complete:]
        result: Array = sums[0, :complete] / np.maximum(sums[1, :complete], np.float32(1e-6))
        return result


def _exist(first: int, count: int, total: int) -> NDArray[np.bool_]:
    """Return which of `count` frames from `first` are frames of the audio."""
    numbers = np.arange(first, first + count)
    return (numbers >= 0) & (numbers < total)
