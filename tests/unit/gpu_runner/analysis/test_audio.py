"""Resampling to the rate of the models."""

import numpy as np
import pytest

from gpu_runner.analysis.audio import MODEL_RATE, at_model_rate


def sine(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 44_100, 48_000])
def test_resampled_tone_is_unchanged(rate: int) -> None:
    resampled = at_model_rate(sine(440, rate), rate)
    middle = slice(MODEL_RATE // 4, 3 * MODEL_RATE // 4)
    assert len(resampled) == MODEL_RATE
    assert resampled[middle] == pytest.approx(sine(440, MODEL_RATE)[middle], abs=0.01)


def test_higher_frequencies_are_removed() -> None:
    resampled = at_model_rate(sine(10_000, 48_000), 48_000)
    assert np.abs(resampled[1000:-1000]).max() < 0.01
