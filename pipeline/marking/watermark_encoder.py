"""Adds the watermark to audio while it is generated.

The watermark is a difference below 2 kHz, which is added to the unchanged samples. It depends neither on how the
audio is split into pieces, nor on other audio that is marked at the same time: frames are processed in blocks of
fixed position and size, because the rounding of a matrix product depends on its shape. A frame needs the 150 ms
after it, and half a window of 64 ms.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from pipeline.marking.convolution import Array
from pipeline.marking.watermark_network import (
    BINS,
    CONTEXT,
    MASK,
    Frames,
    Layer,
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
        self._sizes = chain(_SIZES, repeat(_SIZES[-1]))
        self._size = next(self._sizes)
        self._input = _NONE
        """Samples from the start of the next frame, which is half a frame before its centre."""
        self._pending = _NONE
        """Samples that were not returned yet."""
        self._received = 0
        self._next = 0
        """The next frame. Frame n is centred at sample n * hop."""
        self._state = _State.initial(self._frames)

    def add(self, samples: Array) -> Array:
        """Add the next samples, float32. Return the marked samples that are complete, possibly none."""
        return add_to_each([(self, samples)])[0]

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
        return _run([self], (*sizes, count - sum(sizes)), total=1 + self._received // hop)[0]

    def _receive(self, samples: Array) -> tuple[int, ...]:
        """Add samples to the input. Return the sizes of the next blocks that it completes."""
        was_framed = self._received > self._half
        self._received += len(samples)
        self._pending = np.concatenate([self._pending, samples])
        self._input = np.concatenate([self._input, samples])
        if self._received <= self._half:
            return ()
        if not was_framed:
            self._input = np.pad(self._input, (self._half, 0), mode="reflect")
        return tuple(self._complete_blocks())

    def _complete_blocks(self) -> Iterator[int]:
        """Return the sizes of the next blocks that the input completes."""
        count = self._size
        while len(self._input) >= self._frames.span(count):
            yield self._size
            self._size = next(self._sizes)
            count += self._size

    def _advance(self, count: int, difference: Array, state: "_State") -> Array:
        """Complete the next frames. Return the marked samples before the first incomplete frame."""
        hop, first = self._frames.hop, self._next - DELAY
        difference = difference[max(0, self._half - first * hop) :]  # from the first sample of the audio
        samples = self._pending[: len(difference)]
        self._input, self._pending = self._input[count * hop :], self._pending[len(samples) :]
        self._next += count
        self._state = state
        return samples + difference[: len(samples)]


def add_to_each(pieces: Sequence[tuple[WatermarkEncoder, Array]]) -> list[Array]:
    """Add samples to different encoders. Return what `add` returns for each, in less time.

    Encoders that complete blocks of the same sizes run together. The size of the first block is unique and larger
    than `DELAY`: such encoders are all at the first frame, or all past the frames that depend on the start.
    """
    marked = [_NONE] * len(pieces)
    groups = defaultdict[tuple[tuple[int, ...], int], list[int]](list)
    for number, (encoder, samples) in enumerate(pieces):
        if sizes := encoder._receive(samples):
            groups[sizes, encoder._frames.hop].append(number)
    for (sizes, _), numbers in groups.items():
        results = _run([pieces[number][0] for number in numbers], sizes)
        for number, result in zip(numbers, results, strict=True):
            marked[number] = result
    return marked


def _run(encoders: Sequence[WatermarkEncoder], sizes: Sequence[int], total: int = sys.maxsize) -> list[Array]:
    """Analyse the next blocks of encoders. Return the samples that these complete.

    `total` is the number of all frames. Several encoders have to be at frames of which the same exist.
    """
    frames, position, size = encoders[0]._frames, encoders[0]._next, sum(sizes)
    before = _State.join([encoder._state for encoder in encoders])
    spectra = frames.spectra(np.stack([encoder._input[: frames.span(size)] for encoder in encoders]))
    levels = frames.levels(spectra)
    sums = levels.sum(axis=2, keepdims=True)
    loudest = np.maximum(np.maximum.accumulate(sums, axis=1), before.loudest)
    spectra = np.concatenate([before.spectra, spectra[..., :BINS] * (sums > MASK * loudest)], axis=1)
    changes, contexts = _run_network(levels[..., :BINS], before.contexts, sizes, position, total)
    exist = _exist(position - DELAY, size, total)
    factors = (gains(changes) - 1) * exist[:, None]
    differences, overlap = _overlap_add(frames, before.overlap, spectra[:, :size] * factors, exist)
    after = _State(loudest[:, -1:], spectra[:, size:].copy(), contexts, overlap)
    return [
        encoder._advance(size, difference, state)
        for encoder, difference, state in zip(encoders, differences, after.split(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _State:
    """What the next frames of encoders depend on, besides their samples. The first axis is that of the encoders."""

    loudest: Array
    """The largest sum of the levels of a frame so far. Frames far below it are silent. Shape [encoders, 1, 1]."""
    spectra: Spectra
    """The last frames, whose changes the network has not returned yet. Shape [encoders, `DELAY`, `BINS`]."""
    contexts: Array
    """The last inputs of the wide convolutions. Shape [encoders, layers, 2 * `CONTEXT`, inputs]."""
    overlap: Array
    """Sums of windowed frames and of the squares of their windows. Shape [encoders, 2, samples]."""

    @classmethod
    def initial(cls, frames: Frames) -> "_State":
        """Return the state of one encoder before the first frame."""
        layers = layers_of("encoder.layers")[:-2]
        return cls(
            np.zeros((1, 1, 1), np.float32),
            np.zeros((1, DELAY, BINS), np.complex64),
            np.zeros((1, len(layers), 2 * CONTEXT, len(layers[0].bias)), np.float32),
            np.zeros((1, 2, frames.length - frames.hop), np.float32),
        )

    @classmethod
    def join(cls, states: Sequence["_State"]) -> "_State":
        """Return the state of several encoders."""
        return cls(
            np.concatenate([state.loudest for state in states]),
            np.concatenate([state.spectra for state in states]),
            np.concatenate([state.contexts for state in states]),
            np.concatenate([state.overlap for state in states]),
        )

    def split(self) -> Iterator["_State"]:
        """Yield the state of each encoder."""
        for number in range(len(self.loudest)):
            one = slice(number, number + 1)
            yield _State(self.loudest[one], self.spectra[one], self.contexts[one], self.overlap[one])


def _run_network(
    levels: Array, contexts: Array, sizes: Sequence[int], first: int, total: int
) -> tuple[Array, Array]:
    """Return the changes of levels [encoders, frames, bins], `DELAY` frames earlier, and the next contexts.

    One layer after the other processes the blocks of these sizes, so that its weights stay in the cache.
    """
    layers = layers_of("encoder.layers")
    hidden = activation(_convolve(layers[0], levels, sizes, first, total))
    after = np.empty_like(contexts)
    for number, layer in enumerate(layers[1:-1]):
        inputs = np.concatenate([contexts[:, number], hidden], axis=1)
        after[:, number] = inputs[:, -2 * CONTEXT :]
        hidden = activation(_convolve(layer, inputs, sizes, first - (number + 1) * CONTEXT, total))
    return _convolve(layers[-1], hidden, sizes, 0, sys.maxsize), after


def _convolve(layer: Layer, frames: Array, sizes: Sequence[int], first: int, total: int) -> Array:
    """Return the output [encoders, frames, outputs] of a layer from frame `first`: zero for missing frames."""
    result = np.zeros((len(frames), sum(sizes), len(layer.bias)), np.float32)
    for begin, end in pairwise(accumulate(sizes, initial=0)):
        start, stop = max(begin, -first), min(end, total - first)
        if start < stop:
            result[:, start:stop] = layer(frames[:, start : stop + layer.width - 1])
    return result


def _overlap_add(frames: Frames, sums: Array, spectra: Spectra, exist: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Invert the spectrogram: add the next frames, of which some may not exist, to the sums of those before.

    Return the samples [encoders, samples] that no later frame changes, and the sums of those after them.
    """
    hop, complete = frames.hop, spectra.shape[1] * frames.hop
    sums = np.concatenate([sums, np.zeros((len(sums), 2, complete), np.float32)], axis=2)
    samples, power = frames.samples(spectra), frames.window**2
    for number in np.flatnonzero(exist):
        overlap = sums[:, :, number * hop : number * hop + frames.length]
        overlap[:, 0] += samples[:, number]
        overlap[:, 1] += power
    scales: Array = np.maximum(sums[:, 1, :complete], np.float32(1e-6))
    return sums[:, 0, :complete] / scales, sums[:, :, complete:].copy()


def _exist(first: int, count: int, total: int) -> NDArray[np.bool_]:
    """Return which of `count` frames from `first` are frames of the audio."""
    numbers = np.arange(first, first + count)
    return (numbers >= 0) & (numbers < total)
