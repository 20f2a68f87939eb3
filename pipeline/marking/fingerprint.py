"""Audio fingerprints, which find a recording again after lossy encoding, cuts and moderate noise.

The method is that of J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002), with
fewer and longer frames: for each frame, the bits state how the differences between the levels of neighbouring bands
change.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.reference_audio import Samples

Words = NDArray[np.uint16]
"""A fingerprint: a word for each frame, shape [frames]."""

FRAMES_PER_SECOND = 6.25
_FRAME_SECONDS = 0.4
_BITS = 16
_LOWEST_HZ, _HIGHEST_HZ = 300.0, 3400.0  # the range of telephones
_OFFSETS = 4  # the frames of a cut begin at another time than those of the whole
_EXCERPT_SECONDS = 6.0
_LEAST_FRAMES = 8
# Unrelated speech differs in half of the bits, with a standard deviation of 0.54 / sqrt(bits). Measured over
# 640,000 pairs of excerpts with 8 to 36 frames. At 6.5 deviations, one of 25 billion pairs matches by chance.
_CHANCE, _DEVIATION, _DEVIATIONS = 0.5, 0.54, 6.5
_MOST_DIFFERENT = 0.3


@dataclass(frozen=True, slots=True)
class Match:
    """The place in a fingerprint that is most similar to an excerpt."""

    frame: int
    """The middle. A slower copy is longer than the original, and so begins before it."""
    difference: float
    """The share of different bits."""


def fingerprint(samples: Samples, sample_rate: int) -> Words:
    """Return the fingerprint of mono samples, float32 of shape [samples]; empty if they last less than 0.56 s."""
    return _words(samples, sample_rate, 0.0)


def excerpts(samples: Samples, sample_rate: int) -> list[Words]:
    """Return the fingerprints of the loudest six seconds at several offsets; none if the audio is too short."""
    loudest = _loudest(samples, int(_EXCERPT_SECONDS * sample_rate))
    step = 1 / FRAMES_PER_SECOND / _OFFSETS
    found = [_words(loudest, sample_rate, step * number) for number in range(_OFFSETS)]
    return [words for words in found if len(words) >= _LEAST_FRAMES]


def find(excerpts_: list[Words], words: Words) -> Match | None:
    """Return where an excerpt occurs in a fingerprint, or None if it does not occur."""
    matches = [match for excerpt in excerpts_ if (match := _find(excerpt, words))]
    return min(matches, key=lambda match: match.difference, default=None)


def _find(excerpt: Words, words: Words) -> Match | None:
    places = len(words) - len(excerpt) + 1
    if places < 1:
        return None
    bits = _BITS * len(excerpt)
    differences = np.zeros(places, np.uint16)
    for number, word in enumerate(excerpt):
        differences += np.bitwise_count(words[number : number + places] ^ word)
    frame = int(differences.argmin())
    difference = float(differences[frame] / bits)
    limit = min(_MOST_DIFFERENT, _CHANCE - _DEVIATIONS * _DEVIATION / math.sqrt(bits))
    return Match(frame + len(excerpt) // 2, difference) if difference <= limit else None


def _loudest(samples: Samples, length: int) -> Samples:
    if len(samples) <= length:
        return samples
    energy = np.cumsum(np.square(samples, dtype=np.float64))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return samples[start : start + length]


def _words(samples: Samples, sample_rate: int, offset_seconds: float) -> Words:
    length, step = int(_FRAME_SECONDS * sample_rate), sample_rate / FRAMES_PER_SECOND
    count = int((len(samples) - offset_seconds * sample_rate - length) // step) + 1
    if count < 2:
        return np.zeros(0, np.uint16)
    starts = (np.arange(count) * step + offset_seconds * sample_rate).astype(np.intp)
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BITS + 2) * length / sample_rate
    limits = np.ceil(edges).astype(np.intp)
    window = np.hanning(length).astype(np.float32)
    levels = np.empty((count, _BITS + 1))
    for number, start in enumerate(starts):  # one at a time, as long audio has too many
        power = np.square(np.abs(np.fft.rfft(samples[start : start + length] * window)))
        levels[number] = np.add.reduceat(power[: limits[-1]], limits[:-1])
    slopes = np.diff(np.log(levels + 1e-9), axis=1)
    words: Words = np.packbits(np.diff(slopes, axis=0) > 0, axis=1).view("<u2").ravel()
    return words
