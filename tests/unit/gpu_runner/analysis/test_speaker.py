"""Embeddings of speakers."""

import numpy as np
import pytest

from gpu_runner.analysis.speaker import embed, embed_parts, similarity, without_silence
from tests.support.speech import voice
from tests.unit.gpu_runner.analysis.conftest import Speak

TEXTS = ("The quick brown fox jumps over the lazy dog.", "She had never seen so many boats in the harbour.")


def test_embedding_is_normalized(speak: Speak) -> None:
    recording = speak(TEXTS[0], 190)
    embedding = embed(recording.samples, recording.sample_rate)
    assert embedding.shape == (256,)
    assert np.linalg.norm(embedding) == pytest.approx(1)


def test_similarity_of_same_speaker_is_higher(speak: Speak) -> None:
    first, second, other = (
        embed(recording.samples, recording.sample_rate)
        for recording in (speak(TEXTS[0], 190), speak(TEXTS[1], 190), speak(TEXTS[1], 90))
    )
    assert similarity(first, second) > 0.85
    assert similarity(first, second) > similarity(first, other) + 0.1


def test_quiet_recording_is_amplified(speak: Speak) -> None:
    recording = speak(TEXTS[0], 190)
    quiet, quieter = (embed(recording.samples * np.float32(gain), recording.sample_rate) for gain in (0.02, 0.002))
    assert similarity(quiet, quieter) > 0.99


def test_parts_overlap() -> None:
    samples = voice(120, seconds=4).samples
    assert embed_parts(samples).shape == (4, 256)
    assert embed_parts(samples[:8000]).shape == (1, 256)


@pytest.mark.parametrize("samples", [np.zeros(16_000, np.float32), np.zeros(10, np.float32)])
def test_embedding_of_silence_is_finite(samples: np.ndarray) -> None:
    assert np.isfinite(embed(samples, 16_000)).all()


def test_pauses_are_removed() -> None:
    sound, pause = voice(120).samples, np.zeros(48_000, np.float32)
    joined = without_silence(np.concatenate([sound, pause, sound]))
    assert len(joined) == pytest.approx(2 * len(without_silence(sound)), rel=0.1)
