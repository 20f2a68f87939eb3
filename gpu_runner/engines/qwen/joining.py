"""Joins the audio of parts while it is generated, with pauses, equal levels, and without clicks.

The first part is output while it is generated. Each other part is held until it is complete, trimmed by a threshold
relative to its own peak, and scaled to the level of the first. So the output depends on the audio of the parts,
not on the time at which it arrives.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.audio.reference_audio import Samples

FADE_SECONDS = 0.008  # long enough to avoid a click, short enough to keep consonants
MARGIN_SECONDS = 0.04  # kept around audible samples: the onset of a word is quiet too
QUIET = 10 ** (-40 / 20)  # relative to the peak of a part: quieter samples at its ends are silence
INAUDIBLE = 10 ** (-80 / 20)  # of full scale: samples below this are silence in any part
LEAD_SILENCE = 10 ** (-60 / 20)  # of full scale, before the first part, whose peak is not known yet
LARGEST_GAIN = 10 ** (6 / 20)  # by which the level of a part is changed, at most
PAUSE_LEVEL = 10 ** (-35 / 20)  # relative to the loudest tenth of a part; quieter windows are pauses

NOTHING: Samples = np.zeros(0, np.float32)


class Joiner:
    """Joins the parts of a text, each followed by its pause in seconds, into one stream of float32 mono.

    With several parts, the silence around each is cut off: only the pause counts. The output is cut off at
    `limit` seconds, if there is one.
    """

    def __init__(self, pauses: Sequence[float], rate: int, limit: float | None = None) -> None:
        self._rate = rate
        self._pauses = [round(pause * rate) for pause in pauses]
        self._samples: list[list[Samples]] = [[] for _ in pauses]
        self._first = _FirstPart(rate, trim=len(pauses) > 1)
        self._level = 0.0  # of the first part
        self._ended: dict[int, bool] = {}  # with a fade or not
        self._current = 0
        self._limit = _Limit(rate, limit)

    @property
    def was_cut(self) -> bool:
        """Whether the limit was passed. There is no further output then."""
        return self._limit.passed

    def push(self, part: int, samples: Samples) -> Samples:
        """Add samples of a part. Return the samples that are ready, possibly none."""
        if part > 0 or len(self._pauses) > 1:
            self._samples[part].append(samples)
        return self._limit.push(self._first.push(samples)) if part == 0 else NOTHING

    def restart(self, part: int) -> None:
        """Drop the samples of a part after the first."""
        self._samples[part].clear()

    def end(self, part: int, *, fade: bool) -> Samples:
        """End a part, with `fade` because it stops in the middle of a sound. Return the samples that are ready."""
        self._ended[part] = fade
        ready = []
        while self._current in self._ended:
            ready.append(self._limit.push(self._finish(self._current)))
            ready.append(self._limit.push(np.zeros(self._pauses[self._current], np.float32)))
            self._current += 1
        if self._current == len(self._pauses):
            ready.append(self._limit.end())
        return np.concatenate([NOTHING, *ready])

    def _finish(self, part: int) -> Samples:
        """Return the rest of the first part, or all of another."""
        samples = np.concatenate([NOTHING, *self._samples[part]])
        self._samples[part].clear()
        if part == 0:
            self._level = speech_level(samples, self._rate)
            return self._first.end(fade=self._ended[0])
        peak = float(np.abs(samples).max(initial=0.0))
        audible = np.flatnonzero(np.abs(samples) > max(QUIET * peak, INAUDIBLE))
        if len(audible) == 0:
            return NOTHING
        margin = round(MARGIN_SECONDS * self._rate)
        trimmed = samples[max(0, audible[0] - margin) : audible[-1] + 1 + margin].copy()
        level = speech_level(trimmed, self._rate)
        if self._level > 0 and level > 0:
            gain = np.clip(self._level / level, 1 / LARGEST_GAIN, LARGEST_GAIN)
            trimmed *= np.float32(min(gain, 1 / peak))
        length = min(round(FADE_SECONDS * self._rate), len(trimmed) // 2)
        trimmed[:length] *= _slope(length)
        trimmed[len(trimmed) - length :] *= _slope(length)[::-1]
        return trimmed


def speech_level(samples: Samples, rate: int) -> float:
    """Return the root mean square of a recording without its pauses."""
    windows = speech_windows(samples, rate)
    return float(np.sqrt(np.square(windows).mean())) if len(windows) > 0 else 0.0


def speech_windows(samples: Samples, rate: int) -> Samples:
    """Return the root mean squares of the 20 ms windows that are not pauses."""
    window = rate // 50
    windows = samples[: len(samples) // window * window].reshape(-1, window)
    if len(windows) == 0:
        return NOTHING
    loudness = np.sqrt(np.square(windows).mean(axis=1))
    speech: Samples = loudness[loudness > PAUSE_LEVEL * np.quantile(loudness, 0.9)]
    return speech


class _FirstPart:
    """The first part, whose samples are released while they arrive.

    The last few milliseconds are held back, in case they have to fade out. With `trim`, so is the silence after the
    last audible sample, and the silence before the first one is dropped.
    """

    def __init__(self, rate: int, *, trim: bool) -> None:
        self._trim = trim
        self._fade = round(FADE_SECONDS * rate)
        self._margin = round(MARGIN_SECONDS * rate)
        self._held = NOTHING
        self._peak = np.float32(0.0)
        self._until = 0  # the end of the part in `_held`, if only silence follows
        self._sent = 0

    def push(self, samples: Samples) -> Samples:
        start = len(self._held)
        self._held = np.concatenate([self._held, samples])
        if not self._trim:
            self._until = len(self._held)
        elif len(samples) > 0:
            heights = np.abs(samples)
            peaks = np.maximum.accumulate(np.maximum(heights, self._peak))
            loud = np.flatnonzero((heights > QUIET * peaks) & (peaks > LEAD_SILENCE))
            if self._peak <= LEAD_SILENCE:  # no audible sample before these
                keep = max(0, start + (int(loud[0]) if len(loud) > 0 else len(samples)) - self._margin)
                self._held, start = self._held[keep:], start - keep
            self._peak = peaks[-1]  # not as a double, which may be above a threshold that the sample equals
            if len(loud) > 0:
                self._until = start + int(loud[-1]) + 1 + self._margin
        return self._release(min(self._until, len(self._held)) - self._fade)

    def end(self, *, fade: bool) -> Samples:
        rest = self._held[: max(0, self._until)].copy()
        if fade or self._trim:
            length = min(self._fade, (self._sent + len(rest)) // 2)
            rest[len(rest) - length :] *= _slope(length)[::-1]
            if self._trim and self._sent == 0:
                rest[:length] *= _slope(length)
        return rest

    def _release(self, count: int) -> Samples:
        """Release samples that the fade-out won't reach, once there are enough for the fade-in."""
        if count < (self._fade if self._trim and self._sent == 0 else 1):
            return NOTHING
        ready = self._held[:count].copy()
        if self._trim and self._sent == 0:
            ready[: self._fade] *= _slope(self._fade)
        self._held, self._until, self._sent = self._held[count:], self._until - count, self._sent + count
        return ready


class _Limit:
    """Cuts a stream off after a number of seconds, without a click."""

    def __init__(self, rate: int, seconds: float | None) -> None:
        self.passed = False
        self._left = None if seconds is None else round(seconds * rate)  # samples, from the start of `_held`
        self._fade = min(round(FADE_SECONDS * rate), (self._left or 0) // 2)
        self._held = NOTHING

    def push(self, samples: Samples) -> Samples:
        if self._left is None or self.passed:
            return NOTHING if self.passed else samples
        held = np.concatenate([self._held, samples])
        if len(held) > self._left:
            self.passed, self._held = True, NOTHING
            last = held[: self._left].copy()
            last[len(last) - self._fade :] *= _slope(self._fade)[::-1]
            return last
        safe = min(len(held), max(0, self._left - self._fade))
        self._held, self._left = held[safe:], self._left - safe
        return held[:safe]

    def end(self) -> Samples:
        held, self._held = self._held, NOTHING
        return held


def _slope(length: int) -> Samples:
    slope: Samples = np.sin(np.linspace(0, np.pi / 2, length, dtype=np.float32)) ** 2
    return slope
