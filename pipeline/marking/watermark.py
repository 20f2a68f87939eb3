"""Detects the watermark of `watermark_encoder`.

The decoder looks for the watermark at three speeds, so that a moderate change of speed does not hide it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.reference_audio import Samples
from pipeline.marking.convolution import Array
from pipeline.marking.watermark_network import BINS, CONTEXT, MASK, Frames, Layer, activation, layers_of

THRESHOLD = 0.5
DETECTION_RATE, FALSE_POSITIVE_RATE = 1317 / 1520, 5 / 1520
"""Clips with and without the watermark in which it is found, over all changes in docs/trust.md."""

WINDOW_SECONDS = 10
"""Longer audio is searched in windows. Its score is the highest one."""

_RATE = 8000  # the decoder uses only frequencies below 2 kHz
_SPEEDS = (("decoder.slow_layers", 1.25), ("decoder.normal_layers", 1.0), ("decoder.fast_layers", 0.75))


@dataclass(frozen=True, slots=True)
class Detection:
    """The result of a search for the watermark. `score` is between 0 and 1."""

    score: float

    @property
    def is_marked(self) -> bool:
        """Whether the audio has the watermark."""
        return self.score >= THRESHOLD


def detect(samples: Samples, sample_rate: int) -> Detection:
    """Search the watermark in mono samples, float32 of shape [samples].

    A second of audio takes 10 to 20 ms of CPU time.

    Raises
    ------
    PackageMissing
        `resemble-perth` is not installed.
    """
    layers = [layers_of(branch) for branch, _ in _SPEEDS]
    return Detection(max((_score(window, layers) for window in _windows(samples, sample_rate)), default=0.0))


def _windows(samples: Samples, sample_rate: int) -> Iterator[Array]:
    """Yield the samples at 8 kHz in windows of equal size."""
    resampled = _resample(samples, sample_rate)
    count = max(1, round(len(resampled) / (WINDOW_SECONDS * _RATE)))
    yield from np.array_split(resampled, count)


def _resample(samples: Samples, sample_rate: int) -> Array:
    """Resample to 8 kHz, with an ideal filter."""
    count = len(samples) * _RATE // sample_rate
    if count == 0:
        return np.zeros(0, np.float32)
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    resampled = np.fft.irfft(spectrum, count) * (_RATE / sample_rate)
    return resampled.astype(np.float32)


def _score(samples: Array, layers: Sequence[Sequence[Layer]]) -> float:
    frames = Frames.at(_RATE)
    if len(samples) <= frames.length:
        return 0.0
    levels = frames.levels(frames.spectra(np.pad(samples, frames.length // 2, mode="reflect")))
    sums = levels.sum(axis=1)
    unmasked = sums > MASK * sums.max()
    if not unmasked.any():
        return 0.0
    at_speeds = zip(layers, (speed for _, speed in _SPEEDS), strict=True)
    attention, marks = np.array([_decode(levels[:, :BINS], unmasked, *each) for each in at_speeds]).T
    shares = np.exp(attention - attention.max())
    return float(np.clip(shares @ marks / shares.sum(), 0, 1))


def _decode(levels: Array, unmasked: NDArray[np.bool_], layers: Sequence[Layer], speed: float) -> Array:
    """Return the mean attention and mark of a branch of the decoder over the unmasked frames."""
    count = int(len(levels) * speed)
    hidden = activation(layers[0](_stretch(levels, count)[None]))
    for layer in layers[1:-1]:
        hidden = activation(layer(np.pad(hidden, ((0, 0), (CONTEXT, CONTEXT), (0, 0)))))
    places = np.arange(count) * len(levels) // count
    mean: Array = layers[-1](hidden)[0, unmasked[places]].mean(axis=0)
    return mean


def _stretch(levels: Array, count: int) -> Array:
    """Interpolate frames linearly to another number of frames."""
    places = np.linspace(0, len(levels) - 1, count, dtype=np.float32)
    before = places.astype(np.intp)
    after = np.minimum(before + 1, len(levels) - 1)
    part = (places - before)[:, None]
    stretched: Array = levels[before] * (1 - part) + levels[after] * part
    return stretched
