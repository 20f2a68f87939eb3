"""Convolutions over 7 frames, compared with their definition."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.marking.convolution import WIDTH, Array, convolve, transform

OUTPUTS, INPUTS = 5, 256


def expected(frames: Array, weights: Array) -> NDArray[np.float64]:
    """Return the convolution, computed in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(frames.astype(np.float64), WIDTH, axis=1)
    return np.asarray(np.einsum("utiw,oiw->uto", windows, weights))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 27, 32])
def test_result_equals_definition(count: int) -> None:
    random = np.random.default_rng(count)
    weights = random.standard_normal((OUTPUTS, INPUTS, WIDTH), np.float32)
    frames = random.standard_normal((2, count + WIDTH - 1, INPUTS), np.float32)
    result, exact = convolve(frames, transform(weights)), expected(frames, weights)
    assert result.shape == (2, count, OUTPUTS)
    assert result.dtype == np.float32
    assert np.abs(result - exact).max() < 1e-5 * np.abs(exact).max()


def test_result_does_not_depend_on_other_utterances() -> None:
    random = np.random.default_rng(0)
    weights = transform(random.standard_normal((OUTPUTS, INPUTS, WIDTH), np.float32))
    frames = random.standard_normal((9, 32 + WIDTH - 1, INPUTS), np.float32)
    alone = [convolve(one[None], weights) for one in frames]
    assert np.array_equal(convolve(frames, weights), np.concatenate(alone))


def test_outputs_depend_on_their_frames_only() -> None:
    random = np.random.default_rng(0)
    weights = transform(random.standard_normal((OUTPUTS, INPUTS, WIDTH), np.float32))
    frames = random.standard_normal((1, 12 + WIDTH - 1, INPUTS), np.float32)
    changed = frames.copy()
    changed[:, WIDTH + 3 :] += 1  # from the inputs of the second tile on
    assert np.array_equal(convolve(frames, weights)[:, :4], convolve(changed, weights)[:, :4])
