"""Fingerprints: found again after encoding, cuts and noise, and not in other speech."""

import io

import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.reference_audio import Samples
from pipeline.marking.fingerprint import excerpts, find, fingerprint

RATE = 24_000


def speech(seed: int, seconds: float = 8.0) -> Samples:
    """Return syllables with formants that change at random."""
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(int(seconds * 5)):
        moments = np.arange(RATE // 5) / RATE
        pitch, formants = random.uniform(90, 180), random.uniform(300, 3300, 3)
        harmonics = np.arange(1, 3400 // pitch) * pitch
        levels = np.exp(-np.min(np.abs(harmonics[:, None] - formants), axis=1) / 150)
        waves = np.sin(2 * np.pi * np.outer(harmonics, moments))
        parts.append(random.uniform(0.3, 1) * np.hanning(len(moments)) * (levels @ waves))
    samples = np.concatenate(parts)
    scaled: Samples = (0.3 * samples / np.abs(samples).max()).astype(np.float32)
    return scaled


SPEECH = speech(0)
WORDS = fingerprint(SPEECH, RATE)


def encoded(samples: Samples, format_: str, subtype: str) -> Samples:
    """Encode and decode samples."""
    file = io.BytesIO()
    sf.write(file, samples, RATE, format=format_, subtype=subtype)
    file.seek(0)
    decoded: Samples = sf.read(file, dtype="float32")[0]
    return decoded


CHANGES: dict[str, Samples] = {
    "unchanged": SPEECH,
    "mp3": encoded(SPEECH, "MP3", "MPEG_LAYER_III"),
    "opus": encoded(SPEECH, "OGG", "OPUS"),
    "quiet": 0.05 * SPEECH,
    "noise": SPEECH + np.random.default_rng(1).normal(0, 0.1 * SPEECH.std(), len(SPEECH)).astype(np.float32),
    "cut": SPEECH[33_333 : 33_333 + 2 * RATE],
    "with silence": np.pad(SPEECH, 5 * RATE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_audio_is_found(change: str) -> None:
    match = find(excerpts(CHANGES[change], RATE), WORDS)
    assert match is not None
    assert match.difference < 0.2


def test_telephone_audio_is_found() -> None:
    spectrum = np.fft.rfft(SPEECH)[: len(SPEECH) // 6 + 1]
    telephone: Samples = np.asarray(np.fft.irfft(spectrum, len(SPEECH) // 3) / 3, np.float32)
    assert find(excerpts(telephone, RATE // 3), WORDS)


def test_place_of_excerpt() -> None:
    others = [fingerprint(speech(seed), RATE) for seed in range(1, 4)]
    match = find(excerpts(SPEECH, RATE), np.concatenate([*others, WORDS, *others]))
    assert match is not None
    assert sum(map(len, others)) <= match.frame < sum(map(len, others)) + len(WORDS)


def test_other_speech_is_not_found() -> None:
    words = np.concatenate([fingerprint(speech(seed), RATE) for seed in range(1, 8)])
    assert not find(excerpts(SPEECH, RATE), words)
    assert not find(excerpts(SPEECH[: 2 * RATE], RATE), words)


@pytest.mark.parametrize("seconds", [0, 0.1, 0.5, 1.5])
def test_short_audio_has_no_excerpts(seconds: float) -> None:
    assert not excerpts(SPEECH[: int(seconds * RATE)], RATE)
    assert len(fingerprint(SPEECH[: int(seconds * RATE)], RATE)) <= 8


def test_fingerprint_size() -> None:
    assert (WORDS.dtype, WORDS.shape) == (np.dtype("uint16"), (47,))


def test_excerpt_longer_than_fingerprint() -> None:
    assert not find(excerpts(SPEECH, RATE), WORDS[:5])
    assert not find(excerpts(SPEECH, RATE), WORDS[:0])
