import numpy as np
import pytest

from gpu_runner.engines.qwen import joining
from pipeline.audio.reference_audio import Samples

RATE = 24_000


def tone(seconds: float, level: float = 0.5) -> Samples:
    time = np.arange(int(seconds * RATE)) / RATE
    return (level * np.cos(2 * np.pi * 220 * time)).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


def steepest(samples: Samples) -> float:
    return float(np.abs(np.diff(samples)).max())


def test_one_part_is_left_as_it_is() -> None:
    samples = tone(0.3)
    assert joining.join([samples], [0.0], RATE) is samples


def test_no_clicks_where_parts_meet() -> None:
    # A cosine starts and ends at its full height: the worst of edges.
    joined = joining.join([tone(0.3), tone(0.301)], [0.2, 0.0], RATE)
    assert steepest(np.concatenate([tone(0.3), silence(0.2)])) > 0.2
    assert steepest(np.concatenate([silence(0.1), joined, silence(0.1)])) < 0.04
    assert np.abs(joined).max() == pytest.approx(0.5, abs=0.01)


def test_pauses_are_as_long_as_asked_whatever_silence_the_parts_bring() -> None:
    part = np.concatenate([silence(0.3), tone(0.2), silence(0.9)])
    joined = joining.join([part, part, part], [0.35, 0.7, 0.0], RATE)
    heard = np.flatnonzero(np.abs(joined) > joining.QUIET)
    gaps = np.diff(heard)
    pauses = gaps[gaps > 0.1 * RATE] / RATE
    assert pauses == pytest.approx([0.35 + 0.08, 0.7 + 0.08], abs=0.02)
    assert len(joined) / RATE == pytest.approx(3 * 0.28 + 1.05, abs=0.01)


def test_a_silent_part_is_a_pause() -> None:
    joined = joining.join([tone(0.2), silence(1.0), tone(0.2)], [0.1, 0.1, 0.0], RATE)
    assert len(joined) / RATE == pytest.approx(0.6, abs=0.001)


def test_a_cut_does_not_click_and_is_exact() -> None:
    samples = joining.cut(tone(2.0), 1.0, RATE)
    assert len(samples) == RATE
    assert abs(samples[-1]) < 1e-6
    assert np.array_equal(samples[:20_000], tone(2.0)[:20_000])


def test_what_is_short_enough_is_not_cut() -> None:
    samples = tone(0.5)
    assert joining.cut(samples, 1.0, RATE) is samples


def test_fading_leaves_the_original_alone() -> None:
    samples = tone(0.1)
    before = samples.copy()
    joining.faded(samples, RATE)
    assert np.array_equal(samples, before)
