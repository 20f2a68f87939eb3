"""The engine of the adapted stock voice: one sentence of one utterance per step."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gpu_runner.engines import Finished, Piece, Reference, Utterance, VoicePrompt, seed_of
from gpu_runner.engines.hibari import prompt
from gpu_runner.engines.hibari.prompt import HibariPrompt, ReferenceAnalysis
from gpu_runner.engines.hibari.stock_voice import MODEL, SAMPLE_RATE, StockVoice, other_letters
from pipeline.contract.records import FinishReason
from pipeline.errors import InvalidInput

LANGUAGES = ("Auto", "English")
SKIPPED = "Letters of other scripts than Latin were skipped."


@dataclass(slots=True)
class _Running:
    """An utterance in progress."""

    utterance: Utterance
    parts: deque[list[int]]
    noise: np.random.Generator
    admitted_at: float
    samples_left: int | None
    warnings: list[str] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    pieces: int = 0


class HibariEngine:
    """Synthesizes sentence by sentence, and takes turns between the admitted utterances."""

    model = MODEL
    reproducible_as = MODEL
    sample_rate = SAMPLE_RATE

    def __init__(self, *, capacity: int = 8, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.capacity = capacity
        self._monotonic = monotonic
        self._voice = StockVoice()
        self._analysis = ReferenceAnalysis(self._voice)
        self._running: deque[_Running] = deque()

    def make_prompt(self, reference: Reference) -> VoicePrompt:
        """Measure pitch, vocal tract length and long-term spectrum of a reference."""
        return self._analysis.measure(reference.recording)

    def restore_prompt(self, document: bytes) -> VoicePrompt:
        """Load a prompt written by `HibariPrompt.to_json`."""
        return prompt.restore(document)

    def admit(self, utterance: Utterance) -> None:
        """Admit an utterance. The options of the sampling, such as the temperature, are ignored."""
        if not isinstance(utterance.prompt, HibariPrompt):
            raise TypeError(f"a {type(utterance.prompt).__name__} is not a prompt of {MODEL}")
        if len(self._running) >= self.capacity:
            raise RuntimeError(f"{MODEL} takes at most {self.capacity} utterances at a time")
        options = utterance.options
        if options.language not in LANGUAGES:
            raise InvalidInput(
                f"The hibari engine speaks English only, not {options.language}. "
                "TTS_BACKEND=qwen speaks ten languages.",
                field="language",
            )
        parts = deque(self._voice.phonemes(utterance.text))
        limit = None if options.max_seconds is None else round(options.max_seconds * SAMPLE_RATE)
        self._running.append(
            _Running(
                utterance,
                parts,
                np.random.default_rng(seed_of(utterance)),
                self._monotonic(),
                limit,
                [SKIPPED] if other_letters(utterance.text) else [],
            )
        )

    def step(self) -> list[Piece | Finished]:
        """Synthesize the next sentence of the utterance that has waited longest."""
        if not self._running:
            return []
        one = self._running.popleft()
        job_id = one.utterance.job_id
        try:
            events = self._next_sentence(one)
        except Exception as error:  # the end of this utterance only
            return [Finished(job_id, error=error, seconds=self._monotonic() - one.admitted_at)]
        if one.parts:
            self._running.append(one)
            return events
        seconds = self._monotonic() - one.admitted_at
        return [*events, Finished(job_id, None, tuple(one.warnings), seconds, one.finish_reason)]

    def _next_sentence(self, one: _Running) -> list[Piece | Finished]:
        assert isinstance(one.utterance.prompt, HibariPrompt)  # noqa: S101 - checked by `admit`
        samples = self._voice.synthesize(one.parts.popleft(), one.utterance.prompt.adaptation, one.noise)
        if one.samples_left is not None:
            if len(samples) > one.samples_left or (len(samples) == one.samples_left and one.parts):
                one.parts.clear()
                one.finish_reason = "length"
                one.warnings.append(
                    f"The audio was cut off at {one.utterance.options.max_seconds:g} s (max_seconds)."
                )
            samples = samples[: one.samples_left]
            one.samples_left -= len(samples)
        if not len(samples):
            return []
        one.pieces += 1
        return [Piece(one.utterance.job_id, one.pieces - 1, samples)]

    def cancel(self, job_id: str) -> None:
        """Drop an utterance."""
        self._running = deque(one for one in self._running if one.utterance.job_id != job_id)
