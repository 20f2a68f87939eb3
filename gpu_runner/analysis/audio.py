"""Samples at the rate of the models."""

from math import gcd

import numpy as np

from pipeline.audio.reference_audio import Samples

MODEL_RATE = 16_000  # Hz


def at_model_rate(samples: Samples, sample_rate: int) -> Samples:
    """Return mono samples of shape (frames,) resampled to `MODEL_RATE`, in [-1, 1].

    The spectrum is cut or extended. Zeros at the end keep the end of the recording apart from its beginning.
    """
    if sample_rate == MODEL_RATE:
        return samples
    step = sample_rate // gcd(sample_rate, MODEL_RATE)
    frames = len(samples) * MODEL_RATE // sample_rate
    # A multiple of `step` has a whole number of samples at the new rate.
    size = -(-(len(samples) + sample_rate // 10) // step) * step
    new_size = size * MODEL_RATE // sample_rate
    spectrum = np.fft.rfft(samples, size)[: new_size // 2 + 1]
    resampled = np.fft.irfft(spectrum, new_size)[:frames] * (new_size / size)
    return np.clip(resampled, -1, 1).astype(np.float32)
