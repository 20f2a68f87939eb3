"""Joins the audio of parts while it is generated, with pauses and without clicks."""

from collections.abc import Sequence

import numpy as np

from pipeline.audio.reference_audio import Samples

FADE_SECONDS = 0.008  # long enough to avoid a click, short enough to keep consonants
QUIET = 10 ** (-45 / 20)  # the silence that the model generates around a part is quieter than that
MARGIN_SECONDS = 0.04  # kept around audible samples: the onset of a word is quiet too

NOTHING: Samples = np.zeros(0, np.float32)


class Joiner:
    """Joins the parts of a text, each followed by its pause in seconds, into one stream of float32 mono.

    With several parts, the silence around each is cut off: only the pause counts. The output is cut off at
    `limit` seconds, if there is one.
    """

    def __init__(self, pauses: Sequence[float], rate: int, limit: float | None = None) -> None:
        self._parts = [_Whole(rate) if len(pauses) == 1 else _Trimmed(rate) for _ in pauses]
        self._pauses = [round(pause * rate) for pause in pauses]
        self._ended = [False] * len(pauses)
        self._current = 0
        self._limit = _Limit(rate, limit)

    @property
    def was_cut(self) -> bool:
        """Whether the limit was passed. There is no further output then."""
        return self._limit.passed

    def push(self, part: int, samples: Samples) -> Samples:
        """Add samples of a part. Return the samples that are ready, possibly none."""
        self._parts[part].push(samples)
        return self._drain()

    def end(self, part: int, *, fade: bool) -> Samples:
        """End a part, with `fade` because it stops in the middle of a sound. Return the samples that are ready."""
        self._parts[part].end(fade=fade)
        self._ended[part] = True
        return self._drain()

    def _drain(self) -> Samples:
        """Return the ready samples of the parts, in order."""
        out = []
        while self._current < len(self._parts):
            out.append(self._limit.push(self._parts[self._current].take()))
            if not self._ended[self._current]:
                break
            out.append(self._limit.push(np.zeros(self._pauses[self._current], np.float32)))
            self._current += 1
        else:
            out.append(self._limit.end())
        return np.concatenate(out)


class _Whole:
    """An untrimmed part. Its last few milliseconds are held back until it is known whether they have to fade."""

    def __init__(self, rate: int) -> None:
        self._fade = round(FADE_SECONDS * rate)
        self._held = NOTHING
        self._ready = NOTHING

    def push(self, samples: Samples) -> None:
        held = np.concatenate([self._held, samples])
        keep = min(self._fade, len(held))
        self._ready = np.concatenate([self._ready, held[: len(held) - keep]])
        self._held = held[len(held) - keep :]

    def end(self, *, fade: bool) -> None:
        last = self._held * _slope(len(self._held))[::-1] if fade else self._held
        self._ready, self._held = np.concatenate([self._ready, last]), NOTHING

    def take(self) -> Samples:
        ready, self._ready = self._ready, NOTHING
        return ready


class _Trimmed(_Whole):
    """A part with the silence around it trimmed, faded in and out over a few milliseconds."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self._margin = round(MARGIN_SECONDS * rate)
        self._started = False  # whether anything was louder than silence
        self._sent = 0
        self._until = 0  # where in `_held` the part ends, if nothing louder than silence follows

    def push(self, samples: Samples) -> None:
        loud = np.flatnonzero(np.abs(samples) > QUIET) + len(self._held)
        self._held = np.concatenate([self._held, samples])
        if len(loud) > 0:
            self._until = int(loud[-1]) + 1 + self._margin
        if not self._started:
            start = max(0, (int(loud[0]) if len(loud) > 0 else len(self._held)) - self._margin)
            self._held, self._until = self._held[start:], self._until - start
            self._started = len(loud) > 0
        if self._started:
            self._send(min(self._until, len(self._held)) - self._fade)

    def _send(self, count: int) -> None:
        """Release samples that the fade-out won't reach, once there are enough for the fade-in."""
        if count < (self._fade if self._sent == 0 else 1):
            return
        out = self._held[:count].copy()
        if self._sent == 0:
            out[: self._fade] *= _slope(self._fade)
        self._ready = np.concatenate([self._ready, out])
        self._held, self._until, self._sent = self._held[count:], self._until - count, self._sent + count

    def end(self, *, fade: bool) -> None:
        last = self._held[: max(0, self._until)].copy() if self._started else NOTHING
        length = min(self._fade, (self._sent + len(last)) // 2)
        last[len(last) - length :] *= _slope(length)[::-1]
        if self._sent == 0:
            last[:length] *= _slope(length)
        self._ready, self._held = np.concatenate([self._ready, last]), NOTHING


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
