"""The checks of references, with the stock voice of hibari. `tests/quality` has the same with real readings."""

import numpy as np
import pytest

from gpu_runner.analysis import checks
from gpu_runner.analysis.checks import CHECKS, check_reference, nothing_checked
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import ReferenceCheck
from pipeline.marking.checkpoints import PackageMissing
from tests.unit.gpu_runner.analysis.conftest import Speak

TEXT = "She had never seen so many boats in the harbour. The water was calm, and the children went home."


@pytest.fixture(scope="module")
def speech(speak: Speak) -> Recording:
    return speak(TEXT, 190)


def codes(check: ReferenceCheck) -> set[str]:
    return {warning.code for warning in check.warnings}


def changed(recording: Recording, samples: Samples) -> Recording:
    return Recording(samples.astype(np.float32), recording.sample_rate)


def test_good_recording_has_no_warnings(speech: Recording) -> None:
    check = check_reference(speech, TEXT)
    assert check.warnings == ()
    assert check.unavailable == ()
    assert check.measures["speech_seconds"] == pytest.approx(speech.duration_seconds, rel=0.4)
    assert check.suggested_transcription is None


def test_noise_is_found(speech: Recording) -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, len(speech.samples))
    assert "noise" in codes(check_reference(changed(speech, np.clip(speech.samples + noise, -1, 1)), TEXT))


def test_clipping_is_found(speech: Recording) -> None:
    limit = 0.2 * np.abs(speech.samples).max()
    assert "clipping" in codes(check_reference(changed(speech, np.clip(speech.samples, -limit, limit)), TEXT))


def test_second_speaker_is_found(speech: Recording, speak: Speak) -> None:
    other = speak(TEXT, 85).samples
    assert "several_speakers" in codes(check_reference(changed(speech, np.append(speech.samples, other)), TEXT))


@pytest.mark.parametrize(
    "text",
    [
        "We hold these truths to be self evident, that all men are created equal.",
        TEXT[:48],
        f"{TEXT} {TEXT}",
        "Nein",
        "Es waren einmal sieben kleine Geißlein " * 20,
    ],
    ids=["another text", "half", "twice", "too short", "too long"],
)
def test_other_transcription_is_found(speech: Recording, text: str) -> None:
    assert codes(check_reference(speech, text)) == {"transcription_mismatch"}


def test_words_are_suggested_without_transcription(speech: Recording) -> None:
    suggested = check_reference(speech, " ").suggested_transcription
    assert suggested is not None
    assert len(set(suggested.split()) & set(TEXT.lower().split())) >= 6


@pytest.mark.parametrize("seconds", [0.2, 5.0])
def test_tone_has_no_speech(seconds: float) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(16_000 * seconds)) / 16_000)
    assert codes(check_reference(Recording(tone.astype(np.float32), 16_000), "")) == {"no_speech"}


def test_short_speech_is_found(speech: Recording) -> None:
    short = changed(speech, speech.samples[: int(2.2 * speech.sample_rate)])
    assert "short_speech" in codes(check_reference(short, TEXT))


@pytest.mark.slow
def test_long_recording_is_found(speech: Recording) -> None:
    long = changed(speech, np.tile(speech.samples, 1 + int(30 / speech.duration_seconds)))
    assert "long_recording" in codes(check_reference(long, TEXT))


def test_missing_package_makes_check_unavailable(speech: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Samples) -> None:
        raise PackageMissing("speechmos")

    monkeypatch.setattr(checks, "predict_opinion", missing)
    check = check_reference(speech, TEXT)
    assert check.unavailable == ("sound",)
    assert check.warnings == ()
    assert nothing_checked().unavailable == tuple(CHECKS)
