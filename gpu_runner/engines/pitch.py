"""The pitch of a voice, by YIN (de Cheveigné and Kawahara, 2002) over the voiced parts of a recording."""

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.reference_audio import Recording, Samples

Floats = NDArray[np.float64]

LOWEST, HIGHEST = 60.0, 600.0  # Hz: from a deep bass to a small child
_RATE = 8_000  # Hz, at least: what is analysed keeps everything below 4 kHz
_WINDOW_SECONDS = 0.04
_FRAMES = 150  # at most, evenly spread: enough for a median, whatever the length
_QUIETEST = 0.1  # of the loud frames' level; below it is a pause
_PERIODIC = 0.2  # YIN's threshold for the normalised difference


def median_pitch(recording: Recording) -> float | None:
    """Estimate the median fundamental in Hz. None if nothing in the recording is voiced."""
    samples, rate = _reduced(recording)
    longest = int(rate / LOWEST) + 2
    window = int(rate * _WINDOW_SECONDS)
    frames = _frames(samples, window + longest)  # [frames, window + longest]
    if len(frames) == 0:
        return None
    frames = _loud(frames)
    difference = _normalised_difference(frames, window, longest)  # [frames, longest]
    shortest = int(rate / HIGHEST)
    pitches = [rate / lag for row in difference if (lag := _period(row, shortest)) is not None]
    return float(np.median(pitches)) if pitches else None


def _reduced(recording: Recording) -> tuple[Floats, float]:
    """Average groups of samples, down to no less than the rate that is needed."""
    group = max(1, recording.sample_rate // _RATE)
    whole = len(recording.samples) // group * group
    samples: Floats = recording.samples[:whole].astype(np.float64).reshape(-1, group).mean(axis=1)
    return samples, recording.sample_rate / group


def _frames(samples: Floats, size: int) -> Floats:
    if len(samples) < size:
        return np.zeros((0, size))
    views = np.lib.stride_tricks.sliding_window_view(samples, size)
    starts = np.unique(np.linspace(0, len(views) - 1, _FRAMES).astype(int))
    frames: Floats = views[starts]
    frames -= frames.mean(axis=1, keepdims=True)
    return frames


def _loud(frames: Floats) -> Floats:
    levels = np.sqrt((frames**2).mean(axis=1))
    loud: NDArray[np.bool_] = (levels > _QUIETEST * np.quantile(levels, 0.95)) & (levels > 0)
    return np.compress(loud, frames, axis=0)


def _normalised_difference(frames: Floats, window: int, longest: int) -> Floats:
    """YIN's d'(lag): the difference function of each frame, divided by its mean over all shorter lags."""
    size = 1 << (frames.shape[1] + window).bit_length()
    spectrum = np.fft.rfft(frames, size)
    head = np.fft.rfft(frames[:, :window], size)
    correlation = np.fft.irfft(spectrum * head.conj(), size)[:, :longest]  # [frames, longest]
    sums = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energy = sums[:, window : window + longest] - sums[:, :longest]  # of the window that starts at each lag
    difference = np.maximum(energy[:, :1] + energy - 2 * correlation, 0)
    running = np.cumsum(difference[:, 1:], axis=1)
    scaled = difference[:, 1:] * np.arange(1, longest) / np.maximum(running, 1e-12)
    return np.pad(scaled, ((0, 0), (1, 0)), constant_values=1.0)


def _period(row: Floats, shortest: int) -> float | None:
    """Return the first minimum below the threshold, interpolated. None if the frame is not voiced."""
    under = np.flatnonzero(row[shortest:-1] < _PERIODIC)
    if len(under) == 0:
        return None
    lag = shortest + int(under[0])
    while lag + 1 < len(row) - 1 and row[lag + 1] < row[lag]:
        lag += 1
    before, here, after = row[lag - 1], row[lag], row[lag + 1]
    bend = before - 2 * here + after
    return lag + float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend > 0 else float(lag)


def level(samples: Samples) -> float:
    """Return the root mean square of the samples, as a fraction of full scale."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
