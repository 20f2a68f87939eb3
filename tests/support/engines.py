"""An engine that tests control, and helpers that collect the output of engines."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpu_runner.engines import Engine, Finished, Piece, Reference, Utterance, VoicePrompt
from gpu_runner.engines.mock import MockEngine, MockPrompt, hum
from pipeline.audio.reference_audio import Samples


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """The complete output of an engine for an utterance."""

    pieces: Sequence[Samples]
    error: Exception | None
    warnings: tuple[str, ...]
    seconds: float
    finish_reason: str
    may_retry: bool

    @property
    def samples(self) -> Samples:
        assert self.error is None
        return np.concatenate(self.pieces)


class OutputCollector:
    """Collects the output of an engine, and asserts that pieces come in order and end once."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[Samples]] = {}
        self.results: dict[str, EngineOutput] = {}

    def collect(self, events: Iterable[Piece | Finished]) -> list[str]:
        """Collect the output of a step and return the ids of the jobs that it finished."""
        ended = []
        for event in events:
            assert event.job_id not in self.results
            pieces = self.pieces.setdefault(event.job_id, [])
            if isinstance(event, Piece):
                assert event.seq == len(pieces)
                assert event.samples.dtype == np.float32
                assert event.samples.ndim == 1
                assert len(event.samples) > 0
                pieces.append(event.samples)
            else:
                ended.append(event.job_id)
                self.results[event.job_id] = EngineOutput(
                    pieces, event.error, event.warnings, event.seconds, event.finish_reason, event.may_retry
                )
        return ended


def synthesize(engine: Engine, *utterances: Utterance) -> dict[str, EngineOutput]:
    """Synthesize utterances in one batch."""
    for utterance in utterances:
        engine.admit(utterance)
    collector = OutputCollector()
    while len(collector.results) < len(utterances):
        collector.collect(engine.step())
    return collector.results


class ScriptedEngine:
    """The mock engine with pauses and faults under the control of a test.  Test and engine thread share it."""

    model = MockEngine.model
    reproducible_as: str | None = MockEngine.reproducible_as
    sample_rate = MockEngine.sample_rate

    def __init__(self, *, capacity: int = 8) -> None:
        self.capacity = capacity
        self.paused = False
        """While true, admitted utterances do not finish."""
        self.prompt_gate = threading.Event()
        """While cleared, `make_prompt` blocks."""
        self.prompt_gate.set()
        self.step_errors: list[BaseException] = []
        """Errors that the next steps raise.  They lose all active utterances."""
        self.errors: dict[str, Exception] = {}
        """Errors by text, of single utterances."""
        self.admit_errors: dict[str, BaseException] = {}
        """Errors that `admit` raises, by text."""
        self.warnings: tuple[str, ...] = ()
        self.runaway_attempts = 0
        """Attempts at each utterance that run away."""
        self.prompts_made = 0
        self.prompts_restored = 0
        self.admitted: list[str] = []
        """All admitted jobs, in order."""
        self.cancelled: list[str] = []
        """The cancelled jobs."""
        self.max_active = 0
        self.threads: set[str] = set()
        self._mock = MockEngine()
        self._active: list[Utterance] = []

    @property
    def active(self) -> list[str]:
        """The jobs in synthesis."""
        return [utterance.job_id for utterance in self._active]

    def make_prompt(self, reference: Reference) -> VoicePrompt:
        self._note_thread()
        self.prompt_gate.wait(10)
        self.prompts_made += 1
        return self._mock.make_prompt(reference)

    def restore_prompt(self, document: bytes) -> VoicePrompt:
        self._note_thread()
        self.prompts_restored += 1
        return self._mock.restore_prompt(document)

    def admit(self, utterance: Utterance) -> None:
        self._note_thread()
        if error := self.admit_errors.get(utterance.text):
            raise error
        self.admitted.append(utterance.job_id)
        self._active.append(utterance)
        self.max_active = max(self.max_active, len(self._active))

    def step(self) -> list[Piece | Finished]:
        self._note_thread()
        if self.step_errors:
            self._active.clear()
            raise self.step_errors.pop(0)
        if self.paused:
            time.sleep(0.001)
            return []
        batch, self._active = self._active, []
        return [event for utterance in batch for event in self._finish(utterance)]

    def cancel(self, job_id: str) -> None:
        self._note_thread()
        self.cancelled.append(job_id)
        self._active = [utterance for utterance in self._active if utterance.job_id != job_id]

    def _finish(self, utterance: Utterance) -> list[Piece | Finished]:
        if error := self.errors.get(utterance.text):
            return [Finished(utterance.job_id, error=error)]
        assert isinstance(utterance.prompt, MockPrompt)
        is_runaway = utterance.attempt < self.runaway_attempts
        first, last = np.array_split(hum(utterance.text + "!" * utterance.attempt, utterance.prompt), 2)
        return [
            Piece(utterance.job_id, 0, first),
            Piece(utterance.job_id, 1, last),
            Finished(
                utterance.job_id,
                warnings=self.warnings,
                seconds=0.5,
                finish_reason="length" if is_runaway else "retried" if utterance.attempt else "stop",
                may_retry=is_runaway,
            ),
        ]

    def _note_thread(self) -> None:
        self.threads.add(threading.current_thread().name)
