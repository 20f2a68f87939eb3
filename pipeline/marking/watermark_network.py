"""The networks of `resemble-perth` 1.0.1, computed with numpy.

They work on the magnitudes below 2 kHz of a spectrogram with a window of 64 ms and a hop of 10 ms, in decibels,
scaled so that -180 dB is 0 and 15 dB is 1. The published networks use a sample rate of 32 kHz. At another rate, the
same window and hop in milliseconds give the same frequencies, and only the level has to be adapted.

Published at https://github.com/resemble-ai/Perth under the MIT licence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.marking import convolution
from pipeline.marking.checkpoints import PackageMissing, installed_file, read_checkpoint
from pipeline.marking.convolution import Array

PACKAGE = "resemble-perth"
WEIGHTS = "perth/perth_net/pretrained/implicit/perth_net_250000.pth.tar"

BINS = 128
"""Frequencies that the networks see: 0 to 1984 Hz in steps of 15.625 Hz."""

LAYERS = 7
"""Layers of a network: five convolutions with a width of 7 frames, between two of width 1."""

CONTEXT = convolution.WIDTH // 2
"""Frames before and after, which each of the five convolutions needs."""

MASK = 0.05
"""Frames are masked if their sum of scaled levels is below this part of the largest sum: digital silence."""

_RATE = 32_000
_RANGE = 195.0  # dB
_LOWEST = np.array([1e-18], np.float32)  # power, at -180 dB
# Natural logarithms and exponentials of float32 are three times as fast as others in numpy.
_LEVEL_OF_LOG = np.float32(10 / math.log(10) / _RANGE)
_LOG_OF_LEVEL = np.float32(_RANGE / 20 * math.log(10))
_SLOPE = np.float32(0.01)  # of the activation below 0

Spectra = NDArray[np.complex64]
Network = Literal["encoder.layers", "decoder.slow_layers", "decoder.normal_layers", "decoder.fast_layers"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution in time over one frame, or over seven.

    `weights` has the shape [1, inputs, outputs] or is the result of `convolution.transform`, `bias` [outputs].
    """

    weights: Array
    bias: Array
    width: int

    def __call__(self, frames: Array) -> Array:
        """Convolve frames [utterances, time + width - 1, inputs]. Return [utterances, time, outputs]."""
        result = frames @ self.weights[0] if self.width == 1 else convolution.convolve(frames, self.weights)
        result += self.bias
        return result


def activation(frames: Array) -> Array:
    """Return the leaky ReLU, computed in place."""
    np.maximum(frames, _SLOPE * frames, out=frames)
    return frames


@cache
def layers_of(network: Network) -> Sequence[Layer]:
    """Return the layers of a network.

    Raises
    ------
    PackageMissing
        `resemble-perth` is not installed.
    """
    model = read_checkpoint(installed_file(PACKAGE, WEIGHTS), network)["model"]
    return [_layer(model, f"{network}.{number}.conv") for number in range(LAYERS)]


def _layer(model: Mapping[str, Array], name: str) -> Layer:
    weights = model[f"{name}.weight"]  # [outputs, inputs, width]
    width = weights.shape[2]
    transformed = weights.T.copy() if width == 1 else convolution.transform(weights)
    return Layer(transformed, model[f"{name}.bias"], width)


def missing_package() -> str | None:
    """Return the package with the weights if it is not installed."""
    try:
        installed_file(PACKAGE, WEIGHTS)
    except PackageMissing as error:
        return error.package
    return None


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a spectrogram: a periodic Hann window of 64 ms every 10 ms."""

    hop: int
    window: Array
    """Shape [samples of a frame]."""
    scale: np.float32
    """Factor of an orthonormal magnitude at this rate for the sum over a frame at 32 kHz."""

    @classmethod
    def at(cls, sample_rate: int) -> "Frames":
        """Return the frames at a sample rate, which has to be a multiple of 100."""
        if sample_rate % 100:
            raise ValueError(f"The sample rate should be a multiple of 100, not {sample_rate}.")
        length = 2 * round(0.032 * sample_rate)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        return cls(
            sample_rate // 100, window.astype(np.float32), np.float32(_RATE / sample_rate * math.sqrt(length))
        )

    @property
    def length(self) -> int:
        """The samples of a frame."""
        return len(self.window)

    def span(self, count: int) -> int:
        """Return the number of samples from the start of the first of `count` frames to the end of the last."""
        return self.length + (count - 1) * self.hop

    def spectra(self, samples: Array) -> Spectra:
        """Return the orthonormal spectra [..., frames, frequencies] of the frames within samples [..., time]."""
        views = np.lib.stride_tricks.sliding_window_view(samples, self.length, axis=-1)[..., :: self.hop, :]
        # Without a norm, numpy computes the forward transform in float64, which takes five times as long.
        return np.fft.rfft(views * self.window, norm="ortho").astype(np.complex64, copy=False)

    def samples(self, spectra: Spectra) -> Array:
        """Return the windowed frames [..., frames, samples] of spectra, which may lack the higher frequencies."""
        return np.fft.irfft(spectra, self.length, norm="ortho").astype(np.float32, copy=False) * self.window

    def levels(self, spectra: Spectra) -> Array:
        """Return the levels of spectra on the networks' scale."""
        power = spectra.real**2
        power += spectra.imag**2
        power *= self.scale**2
        levels: Array = np.log(np.maximum(power, _LOWEST))
        levels -= np.log(_LOWEST)
        levels *= _LEVEL_OF_LOG
        return levels


def gains(differences: Array) -> Array:
    """Return the factors of magnitudes for differences of their levels on the networks' scale."""
    factors: Array = np.exp(differences * _LOG_OF_LEVEL)
    return factors
