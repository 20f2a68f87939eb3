"""The watermark of speech: encoder and detector."""

import json

import numpy as np
import pytest
from environments import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.engines import Reference, Utterance
from gpu_runner.engines.hibari.engine import HibariEngine
from pipeline.audio.reference_audio import Samples
from pipeline.contract.records import Options
from pipeline.marking.watermark import DETECTION_RATE, FALSE_POSITIVE_RATE, THRESHOLD, detect
from pipeline.marking.watermark_encoder import WatermarkEncoder, add_to_each
from tests.support.engines import synthesize
from tests.support.speech import voice

RATE = 24_000
TEXT = "The quick brown fox jumps over the lazy dog, and runs away."


@pytest.fixture(scope="module")
def speech() -> Samples:
    engine = HibariEngine()
    prompt = engine.make_prompt(Reference(voice(130), ""))
    return synthesize(engine, Utterance("a", TEXT, prompt, Options()))["a"].samples


@pytest.fixture(scope="module")
def marked(speech: Samples) -> Samples:
    return mark(speech)


def mark(samples: Samples, *cuts: int, rate: int = RATE) -> Samples:
    """Mark samples in pieces that end at these samples."""
    encoder = WatermarkEncoder(rate)
    *pieces, last = np.split(samples, sorted(cuts))
    return np.concatenate([*map(encoder.add, pieces), encoder.finish(last)])


def test_marked_speech_is_detected(speech: Samples, marked: Samples) -> None:
    assert detect(marked, RATE).is_marked
    assert not detect(speech, RATE).is_marked


def test_part_of_marked_speech_is_detected(marked: Samples) -> None:
    assert detect(marked[RATE : 3 * RATE], RATE).is_marked


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000])
def test_mark_survives_resampling(marked: Samples, rate: int) -> None:
    spectrum = np.fft.rfft(marked)
    count = len(marked) * rate // RATE
    padded = np.pad(spectrum, (0, max(0, count // 2 + 1 - len(spectrum))))[: count // 2 + 1]
    resampled = np.fft.irfft(padded, count) * (count / len(marked))
    assert detect(resampled.astype(np.float32), rate).is_marked


@given(cuts=st.lists(st.integers(0, 80_000), max_size=8))
@settings(max_examples=10)
def test_mark_does_not_depend_on_pieces(speech: Samples, marked: Samples, cuts: list[int]) -> None:
    assert np.array_equal(mark(speech, *cuts), marked)
    assert np.array_equal(mark(speech, *cuts, len(speech)), marked)


def test_mark_does_not_depend_on_others(speech: Samples) -> None:
    steps = (8000, 8000, 12_000, 12_000, 8000)
    together, alone = ([WatermarkEncoder(RATE) for _ in steps] for _ in range(2))
    for encoders in (together, alone):
        encoders[0].add(speech[-10_000:])  # it completes other blocks than the last one
    for number in range(4):
        pieces = [speech[step * number :][:step] for step in steps]
        marked = add_to_each(list(zip(together, pieces, strict=True)))
        expected = [encoder.add(piece) for encoder, piece in zip(alone, pieces, strict=True)]
        assert all(map(np.array_equal, marked, expected))


@pytest.mark.parametrize("count", [0, 1, 768, 769, 5000, 6720, 24_000, 70_000])
def test_mark_keeps_length(speech: Samples, count: int) -> None:
    whole = mark(speech[:count])
    assert len(whole) == count
    assert whole.dtype == np.float32
    assert np.array_equal(mark(speech[:count], *range(count)[::197]), whole)


def test_mark_changes_low_frequencies_only(speech: Samples, marked: Samples) -> None:
    assert len(marked) == len(speech)
    power = np.abs(np.fft.rfft(marked - speech)) ** 2
    frequencies = np.fft.rfftfreq(len(speech), 1 / RATE)
    assert power[frequencies > 2100].sum() < 1e-5 * power.sum()
    assert power.sum() < 0.1 * (np.abs(np.fft.rfft(speech)) ** 2).sum()


def test_silence_is_unchanged(speech: Samples) -> None:
    silence = np.zeros(RATE, np.float32)
    assert not mark(silence).any()
    marked = mark(np.concatenate([speech, silence]))
    assert not marked[len(speech) + RATE // 10 :].any()


def test_first_audio_waits_for_context(speech: Samples) -> None:
    encoder = WatermarkEncoder(RATE)
    assert len(encoder.add(speech[: RATE * 29 // 100])) == 0
    assert len(encoder.add(speech[RATE * 29 // 100 : RATE * 3 // 10])) >= RATE * 8 // 100


@pytest.mark.parametrize("count", [0, 1, 1536, 24_000])
def test_silent_or_short_audio_is_unmarked(count: int) -> None:
    assert detect(np.zeros(count, np.float32), RATE).score == 0
    assert 0 <= detect(np.ones(count, np.float32), RATE).score <= 1


def test_mark_is_found_in_long_audio(speech: Samples, marked: Samples) -> None:
    assert detect(np.concatenate([*[speech] * 3, *[marked] * 3]), RATE).is_marked


def test_rate_must_be_multiple_of_100() -> None:
    with pytest.raises(ValueError, match="11025"):
        WatermarkEncoder(11_025)


@pytest.mark.parametrize(("is_marked", "rate"), [(True, DETECTION_RATE), (False, FALSE_POSITIVE_RATE)])
def test_published_rate_is_the_measured_one(is_marked: bool, rate: float) -> None:
    scores = json.loads((ROOT / "docs" / "benchmarks" / "watermark.json").read_text())["scores"]
    found = [one["score"] >= THRESHOLD for one in scores if one["marked"] == is_marked]
    assert rate == sum(found) / len(found)
