"""Mel spectrograms with the defaults of librosa 0.11, which the models were trained with."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.reference_audio import Samples

_LINEAR_HZ = 200 / 3  # Hz per mel of Slaney's scale below 1 kHz; above, 27 mels for a factor of 6.4
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


def mel_spectrogram(samples: Samples, sample_rate: int, *, window: int, hop: int, bands: int) -> Samples:
    """Return the power in mel bands, of shape (frames, bands), float32. Frames are centred, padded with zeros."""
    padded = np.pad(samples, window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(frames * hann.astype(np.float32))) ** 2
    return (power @ _filters(sample_rate, window, bands).T).astype(np.float32)


@lru_cache
def _filters(sample_rate: int, window: int, bands: int) -> NDArray[np.float64]:
    """Return triangular filters of equal area (Slaney), of shape (bands, window // 2 + 1)."""
    edges = _to_hz(np.linspace(0, _to_mel(sample_rate / 2), bands + 2))
    bins = np.linspace(0, sample_rate / 2, window // 2 + 1)
    slopes = (bins - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]
    triangles = np.maximum(0, np.minimum(slopes[:-2], 1 - slopes[1:-1]))
    filters: NDArray[np.float64] = triangles * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters


def _to_mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, above)
