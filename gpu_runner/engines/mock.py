"""A voice without a model: a hum at the pitch of the reference, as long as the text is, always the same."""

import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpu_runner.engines import Finished, Piece, PromptRejected, Reference, Utterance, VoicePrompt
from gpu_runner.engines.pitch import HIGHEST, LOWEST, level, median_pitch
from pipeline.audio.reference_audio import Samples
from pipeline.errors import InvalidInput

MODEL = "mock-1"
SAMPLE_RATE = 24_000

SHORTEST_SECONDS, LONGEST_SECONDS = 0.5, 120.0
LETTER_SECONDS = 0.06
IDEOGRAPH_SECONDS = 0.2  # a syllable each
_FADE_SECONDS = 0.02
_UNVOICED_PITCH = 160.0  # Hz, for a reference that is whispered throughout
_INFLECTION = 0.04  # largest relative deviation from the pitch
_LARGEST_PROMPT = 4096  # bytes; ours take about a hundred
_PERIOD = 2048  # samples of one period in the table
_TICK_SECONDS = 0.01
_PIECE = int(0.32 * SAMPLE_RATE)  # samples, as many as the real engine decodes at a time

Floats = NDArray[np.float64]


class MockPrompt(BaseModel):
    """The features of a voice that the hum uses: its pitch in Hz and its level as a fraction of full scale."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal[1] = 1
    model: Literal["mock-1"] = "mock-1"
    f0: Annotated[float, Field(ge=LOWEST, le=HIGHEST, allow_inf_nan=False)]
    level: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

    def to_json(self) -> bytes:
        """Write the prompt as UTF-8 JSON."""
        return self.model_dump_json().encode()


@dataclass(slots=True)
class _Speaking:
    """An utterance in progress. Times are on the monotonic clock, in seconds."""

    utterance: Utterance
    hum: "_Hum"
    admitted_at: float
    starts_at: float
    sent: int = 0
    """Pieces that have been returned."""

    @property
    def left(self) -> int:
        """Pieces that have not been returned."""
        return -(-self.hum.length // _PIECE) - self.sent

    def next_piece(self) -> Piece:
        self.sent += 1
        return Piece(self.utterance.job_id, self.sent - 1, self.hum.read(_PIECE))


class MockEngine:
    """Synthesizes everything admitted at the same time.

    Each utterance is silent for `delay_seconds`. Then its audio comes in pieces of up to 0.32 s, each when `speed`
    times real time has reached its end, or all at once when `speed` is 0.
    """

    model = MODEL
    reproducible_as = MODEL
    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        *,
        capacity: int = 8,
        delay_seconds: float = 0,
        speed: float = 0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.capacity = capacity
        self._delay = delay_seconds
        self._speed = speed
        self._monotonic = monotonic
        self._sleep = sleep
        self._speaking: list[_Speaking] = []

    def make_prompt(self, reference: Reference) -> VoicePrompt:
        """Measure pitch and level of a reference."""
        pitch = median_pitch(reference.recording) or _UNVOICED_PITCH
        loudness = level(reference.recording.samples)
        return MockPrompt(f0=min(max(pitch, LOWEST), HIGHEST), level=min(max(loudness, 0.001), 1.0))

    def restore_prompt(self, document: bytes) -> VoicePrompt:
        """Validate a stored prompt."""
        if len(document) > _LARGEST_PROMPT:
            raise PromptRejected(f"The stored prompt has {len(document)} bytes, which is none of {MODEL}'s.")
        try:
            return MockPrompt.model_validate_json(document)
        except ValidationError as error:
            raise PromptRejected(f"The stored prompt is damaged or not {MODEL}'s.") from error

    def admit(self, utterance: Utterance) -> None:
        """Admit an utterance. `ValueError` means a mistake of the caller."""
        if not isinstance(utterance.prompt, MockPrompt):
            raise TypeError(f"a {type(utterance.prompt).__name__} is not a prompt of {MODEL}")
        if len(self._speaking) >= self.capacity:
            raise RuntimeError(f"{MODEL} speaks at most {self.capacity} texts at a time")
        if not utterance.text.strip():
            raise InvalidInput("The text is blank.", field="text")
        now = self._monotonic()
        self._speaking.append(_Speaking(utterance, _Hum(utterance.text, utterance.prompt), now, now + self._delay))

    def step(self) -> list[Piece | Finished]:
        """Return the audio that is due. Block for a moment if none is."""
        if not self._speaking:
            return []
        if min(map(self._due_at, self._speaking)) > self._monotonic():
            self._sleep(_TICK_SECONDS)
        events = [event for one in self._speaking for event in self._advance(one, self._monotonic())]
        self._speaking = [one for one in self._speaking if one.left]
        return events

    def cancel(self, job_id: str) -> None:
        """Drop an utterance."""
        self._speaking = [one for one in self._speaking if one.utterance.job_id != job_id]

    def _due_at(self, one: _Speaking) -> float:
        """Return when the next piece of an utterance is due."""
        if self._speed == 0:
            return one.starts_at
        samples = min(one.hum.length, (one.sent + 1) * _PIECE)
        return one.starts_at + samples / SAMPLE_RATE / self._speed

    def _advance(self, one: _Speaking, now: float) -> Iterator[Piece | Finished]:
        while one.left and self._due_at(one) <= now:
            yield one.next_piece()
        if not one.left:
            yield Finished(one.utterance.job_id, seconds=now - one.admitted_at)


def hum(text: str, prompt: MockPrompt) -> Samples:
    """Generate the samples, mono at `SAMPLE_RATE`, of a text in a voice. Deterministic."""
    humming = _Hum(text, prompt)
    return np.concatenate([humming.read(_PIECE) for _ in range(0, humming.length, _PIECE)])


class _Hum:
    """The samples of a text in a voice, generated as they are read: a long text delays no other one's start."""

    def __init__(self, text: str, prompt: MockPrompt) -> None:
        lengths, self._loudness, self._melody = _score(text)
        ends = np.cumsum(lengths)
        self._middles = ends - lengths / 2
        self._prompt = prompt
        self._position = 0
        self._phase = 0.0
        self.length = int(ends[-1] * SAMPLE_RATE)

    def read(self, count: int) -> Samples:
        """Return the next samples, `count` at most."""
        positions = np.arange(self._position, min(self._position + count, self.length))
        self._position += len(positions)
        moments = positions / SAMPLE_RATE  # [samples], s
        pitch = self._prompt.f0 * np.interp(moments, self._middles, self._melody)
        phase = self._phase + np.cumsum(pitch / SAMPLE_RATE)
        self._phase = float(phase[-1] % 1)
        wave = _period()[(phase * _PERIOD).astype(np.int64) % _PERIOD]
        envelope = np.interp(moments, self._middles, self._loudness) * _fade(positions, self.length)
        gain = min(0.9, 0.15 + 2 * self._prompt.level)
        return (gain * envelope * wave).astype(np.float32)


def _score(text: str) -> tuple[Floats, Floats, Floats]:
    """Return the length in seconds, the loudness (0 to 1) and the pitch (around 1) of each character."""
    lengths = np.array([_seconds(character) for character in text])
    total = float(lengths.sum())
    lengths *= min(max(total, SHORTEST_SECONDS), LONGEST_SECONDS) / total
    codes = np.array([ord(character) for character in text])
    loudness = np.array([0.0 if _is_pause(character) else 1.0 for character in text])
    if not loudness.any():
        loudness[:] = 1.0  # an ellipsis is audible too
    loudness *= 0.4 + 0.6 * (codes * 7 % 16) / 15
    return lengths, loudness, 1 + _INFLECTION * (2 * (codes * 5 % 17) / 16 - 1)


def _seconds(character: str) -> float:
    return IDEOGRAPH_SECONDS if unicodedata.east_asian_width(character) in "WF" else LETTER_SECONDS


def _is_pause(character: str) -> bool:
    return unicodedata.category(character)[0] in "PZC"


def _fade(positions: NDArray[np.int64], length: int) -> Floats:
    """Return the part at these positions of an envelope that fades in and out, to avoid clicks."""
    edge = min(int(_FADE_SECONDS * SAMPLE_RATE), length // 2)
    nearest_end = np.minimum(positions, length - 1 - positions)
    faded = np.ones(len(positions))
    fading = nearest_end < edge
    faded[fading] = 0.5 - 0.5 * np.cos(np.pi * nearest_end[fading] / edge)
    return faded


@cache
def _period() -> Floats:
    """Compute one period of a soft buzz: decaying harmonics, with a formant-like peak."""
    phase = np.arange(_PERIOD) / _PERIOD
    strengths = [1.0, 0.6, 0.5, 0.35, 0.2, 0.1, 0.06, 0.04]
    wave = sum(
        (strength * np.sin(2 * np.pi * (n + 1) * phase) for n, strength in enumerate(strengths)),
        start=np.zeros(_PERIOD),
    )
    loudest: float = np.abs(wave).max()
    return wave / loudest
