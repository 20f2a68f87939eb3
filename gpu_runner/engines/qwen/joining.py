"""Putting spoken parts together: natural pauses, no clicks."""

from collections.abc import Sequence

import numpy as np

from pipeline.audio.reference_audio import Samples

FADE_SECONDS = 0.008  # long enough that an edge is not heard as a click, short enough that no consonant is
QUIET = 10 ** (-45 / 20)  # what the model leaves around a part is quieter than that
MARGIN_SECONDS = 0.04  # kept around what is heard: the onset of a word is quiet too


def join(pieces: Sequence[Samples], pauses: Sequence[float], rate: int) -> Samples:
    """Join parts, each followed by its pause in seconds, into one piece of float32 mono.

    Their own silence around them is cut off first: only the pause counts.
    """
    if len(pieces) == 1:
        return pieces[0]
    sounds: list[Samples] = []
    for piece, pause in zip(pieces, pauses, strict=True):
        sounds += [faded(_without_silence(piece, rate), rate), np.zeros(round(pause * rate), np.float32)]
    return np.concatenate(sounds)


def cut(samples: Samples, seconds: float, rate: int) -> Samples:
    """Keep the first seconds, without a click at the end."""
    frames = round(seconds * rate)
    return samples if len(samples) <= frames else faded(samples[:frames], rate, start=False)


def faded(samples: Samples, rate: int, *, start: bool = True) -> Samples:
    """Let a sound come and go over a few milliseconds."""
    length = min(round(FADE_SECONDS * rate), len(samples) // 2)
    slope = np.sin(np.linspace(0, np.pi / 2, length, dtype=np.float32)) ** 2
    result = samples.astype(np.float32, copy=True)
    if start:
        result[:length] *= slope
    result[len(result) - length :] *= slope[::-1]
    return result


def _without_silence(samples: Samples, rate: int) -> Samples:
    heard = np.flatnonzero(np.abs(samples) > QUIET)
    if len(heard) == 0:
        return samples[:0]
    margin = round(MARGIN_SECONDS * rate)
    return samples[max(0, heard[0] - margin) : heard[-1] + 1 + margin]
