from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpu_runner.engines.qwen.joining import Joiner
from pipeline.audio.reference_audio import Samples

RATE = 24_000


def tone(seconds: float, level: float = 0.5) -> Samples:
    time = np.arange(int(seconds * RATE)) / RATE
    return (level * np.cos(2 * np.pi * 220 * time)).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


def joined(
    parts: Sequence[Samples],
    pauses: Sequence[float],
    limit: float | None = None,
    *,
    fade: bool = False,
    by: int = 960,
) -> Samples:
    """Join parts that come in chunks, one part after the other."""
    joiner = Joiner(pauses, RATE, limit)
    heard = []
    for number, part in enumerate(parts):
        heard += [joiner.push(number, part[start : start + by]) for start in range(0, len(part), by)]
        heard.append(joiner.end(number, fade=fade))
    return np.concatenate(heard)


def steepest(samples: Samples) -> float:
    return float(np.abs(np.diff(samples)).max())


def test_single_part_unchanged() -> None:
    samples = tone(0.3)
    assert np.array_equal(joined([samples], [0.0]), samples)


def test_stopped_single_part_fades_out() -> None:
    samples = joined([tone(0.3)], [0.0], fade=True)
    assert abs(samples[-1]) < 1e-6
    assert np.array_equal(samples[:-192], tone(0.3)[:-192])


def test_no_click_between_parts() -> None:
    # A cosine starts and ends at its full height: the worst of edges.
    whole = joined([tone(0.3), tone(0.301)], [0.2, 0.0])
    assert steepest(np.concatenate([tone(0.3), silence(0.2)])) > 0.2
    assert steepest(np.concatenate([silence(0.1), whole, silence(0.1)])) < 0.04
    assert np.abs(whole).max() == pytest.approx(0.5, abs=0.01)


def test_pause_length_ignores_part_silence() -> None:
    part = np.concatenate([silence(0.3), tone(0.2), silence(0.9)])
    whole = joined([part, part, part], [0.35, 0.7, 0.0])
    heard = np.flatnonzero(np.abs(whole) > 0.005)
    gaps = np.diff(heard)
    pauses = gaps[gaps > 0.1 * RATE] / RATE
    assert pauses == pytest.approx([0.35 + 0.08, 0.7 + 0.08], abs=0.02)
    assert len(whole) / RATE == pytest.approx(3 * 0.28 + 1.05, abs=0.01)


def test_silent_part_is_pause() -> None:
    whole = joined([tone(0.2), silence(1.0), tone(0.2)], [0.1, 0.1, 0.0])
    assert len(whole) / RATE == pytest.approx(0.6, abs=0.001)


def test_cut_is_exact_without_click() -> None:
    samples = joined([tone(2.0)], [0.0], limit=1.0)
    assert len(samples) == RATE
    assert abs(samples[-1]) < 1e-6
    assert np.array_equal(samples[: RATE - 192], tone(2.0)[: RATE - 192])


def test_short_audio_not_cut() -> None:
    assert np.array_equal(joined([tone(0.5)], [0.0], limit=0.5), tone(0.5))


def test_nothing_after_cut() -> None:
    joiner = Joiner([0.1, 0.0], RATE, 0.3)
    heard = [joiner.push(0, tone(0.5)), joiner.end(0, fade=False)]
    assert joiner.was_cut
    heard += [joiner.push(1, tone(0.5)), joiner.end(1, fade=False)]
    assert sum(map(len, heard)) == round(0.3 * RATE)


def test_first_part_streamed_others_held() -> None:
    joiner = Joiner([0.2, 0.0], RATE)
    assert len(joiner.push(1, tone(0.5))) == 0
    assert len(joiner.push(0, tone(0.3))) > 0.28 * RATE
    assert len(joiner.end(0, fade=False)) < 0.25 * RATE
    assert len(joiner.push(1, tone(0.1))) == 0
    assert len(joiner.end(1, fade=False)) == pytest.approx(0.6 * RATE, abs=1)


def test_restart_drops_samples_of_part() -> None:
    joiner = Joiner([0.2, 0.0], RATE)
    joiner.push(1, tone(0.5))
    joiner.restart(1)
    joiner.push(1, tone(0.3))
    joiner.end(0, fade=False)
    assert len(joiner.end(1, fade=False)) == pytest.approx(0.3 * RATE, abs=1)


def test_quiet_voice_is_not_trimmed() -> None:
    peak = 10 ** (-46 / 20)
    whole = joined([tone(3.0, peak), tone(3.0, peak)], [0.35, 0.0])
    assert len(whole) / RATE == pytest.approx(6.35, abs=0.001)
    assert np.abs(whole).max() == pytest.approx(peak, rel=0.01)


def test_noise_around_quiet_voice_is_trimmed() -> None:
    quiet, noise = tone(1.0, 10 ** (-46 / 20)), tone(0.5, 10 ** (-90 / 20))
    part = np.concatenate([noise, quiet, noise])
    assert len(joined([part, part], [0.0, 0.0])) / RATE == pytest.approx(2 * 1.08, abs=0.01)


@pytest.mark.parametrize(("level", "expected"), [(0.25, 0.3), (0.42, 0.3), (0.05, 0.1), (0.9, 0.45)])
def test_level_of_later_part_matches_first(level: float, expected: float) -> None:
    whole = joined([tone(1.0, 0.3), tone(1.0, level)], [0.1, 0.0])
    assert np.abs(whole[-RATE:]).max() == pytest.approx(expected, rel=0.02)


def test_matched_level_never_clips() -> None:
    peaky = tone(1.0, 0.2)
    peaky[12_000] = 0.9
    whole = joined([tone(1.0, 0.4), peaky], [0.1, 0.0])
    assert np.abs(whole).max() == pytest.approx(1.0, abs=1e-3)


LOUDNESS = st.sampled_from([0.0, 0.001, 0.5])
PARTS = st.lists(st.lists(st.tuples(LOUDNESS, st.integers(1, 3000)), max_size=4), min_size=1, max_size=3)


@settings(max_examples=50, deadline=None)
@example(parts=[[(0.001, 961), (0.5, 1)], []], by=50, limit=None, fade=False)  # as loud as the threshold
@given(parts=PARTS, by=st.integers(50, 4000), limit=st.none() | st.floats(0.01, 0.5), fade=st.booleans())
def test_chunk_sizes_do_not_matter(
    parts: list[list[tuple[float, int]]], by: int, limit: float | None, fade: bool
) -> None:
    samples = [
        np.concatenate([silence(0), *(tone(length / RATE, level) for level, length in part)]) for part in parts
    ]
    pauses = [0.01 * number for number in range(len(parts))][::-1]
    whole = joined(samples, pauses, limit, fade=fade, by=10**6)
    assert np.array_equal(joined(samples, pauses, limit, fade=fade, by=by), whole)
    assert limit is None or len(whole) <= round(limit * RATE)
