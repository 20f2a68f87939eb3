"""The checks of references find planted faults in real readings, and none in clean ones."""

from functools import cache

import pytest

from gpu_runner.analysis.audio import MODEL_RATE
from gpu_runner.analysis.checks import check_reference
from pipeline.audio.reference_audio import Recording
from tests.quality.reference_checks import Case, cases

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("quality"), pytest.mark.usefixtures("quality_environment")]

READERS = ("two_cities", "beckett", "clone_test")
FAULTS = {
    "noise at 10 dB": {"noise"},
    "reverberation of 1.2 s": {"noise", "distorted_speech", "transcription_mismatch"},
    "clipped at 40% of the peak": {"clipping"},
    "transcription of another text": {"transcription_mismatch"},
    "half of the transcription": {"transcription_mismatch"},
    "transcription twice": {"transcription_mismatch"},
}
SPEAKERS = ("endgame", "two_cities and beckett", "two_cities and 2 s of clone_test", "beckett and clone_test")


@cache
def all_cases() -> dict[str, Case]:
    return {case[0]: case for case in cases()}


def found(name: str) -> set[str]:
    _, samples, transcription = all_cases()[name]
    return {warning.code for warning in check_reference(Recording(samples, MODEL_RATE), transcription).warnings}


@pytest.mark.parametrize("reader", READERS)
def test_clean_reading_has_no_warnings(reader: str) -> None:
    assert found(reader) == set()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(reader: str, fault: str) -> None:
    assert found(f"{reader}, {fault}") == FAULTS[fault]


@pytest.mark.parametrize("name", SPEAKERS)
def test_speakers_are_found(name: str) -> None:
    assert found(name) == {"several_speakers"}


@pytest.mark.parametrize("name", ["melody", "white noise"])
def test_sound_without_speech_is_found(name: str) -> None:
    assert found(name) == {"no_speech"}
