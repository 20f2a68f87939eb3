"""An engine that does what the test says, and remembers what it was asked."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpu_runner.engines import Engine, Finished, Piece, Reference, Utterance, VoicePrompt
from gpu_runner.engines.mock import MockEngine, MockPrompt, hum
from pipeline.audio.reference_audio import Samples


@dataclass(frozen=True, slots=True)
class Heard:
    """All that an engine returned for an utterance."""

    pieces: Sequence[Samples]
    error: Exception | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def samples(self) -> Samples:
        assert self.error is None
        return np.concatenate(self.pieces)


class Listener:
    """Collects what an engine returns, and holds it to the interface: pieces in order, then one end."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[Samples]] = {}
        self.heard: dict[str, Heard] = {}

    def listen(self, events: Iterable[Piece | Finished]) -> list[str]:
        """Collect what a step returned; return the jobs that ended with it."""
        ended = []
        for event in events:
            assert event.job_id not in self.heard
            pieces = self.pieces.setdefault(event.job_id, [])
            if isinstance(event, Piece):
                assert event.seq == len(pieces)
                assert event.samples.dtype == np.float32
                assert event.samples.ndim == 1
                assert len(event.samples) > 0
                pieces.append(event.samples)
            else:
                ended.append(event.job_id)
                self.heard[event.job_id] = Heard(pieces, event.error, event.warnings, event.seconds)
        return ended


def speak(engine: Engine, *utterances: Utterance) -> dict[str, Heard]:
    """Speak some utterances together."""
    for utterance in utterances:
        engine.admit(utterance)
    listener = Listener()
    while len(listener.heard) < len(utterances):
        listener.listen(engine.step())
    return listener.heard


class ScriptedEngine:
    """Speaks like the mock engine, but holds, fails or dies when told to; the test and its thread share it."""

    model = MockEngine.model
    reproducible_as: str | None = MockEngine.reproducible_as
    sample_rate = MockEngine.sample_rate

    def __init__(self, *, capacity: int = 8) -> None:
        self.capacity = capacity
        self.held = False
        """While set, nothing that is admitted ends."""
        self.held_prompts = threading.Event()
        """While clear, `make_prompt` does not return."""
        self.held_prompts.set()
        self.step_errors: list[BaseException] = []
        """What the next steps raise, losing all."""
        self.errors: dict[str, Exception] = {}
        """How texts fail, each alone."""
        self.refusals: dict[str, BaseException] = {}
        """What `admit` raises for a text."""
        self.warnings: tuple[str, ...] = ()
        self.prompts_made = 0
        self.prompts_restored = 0
        self.spoken: list[str] = []
        """The jobs that were admitted, in order."""
        self.cancelled: list[str] = []
        """The jobs that were given up."""
        self.batches: list[list[str]] = []
        """What was admitted at each step that ended something."""
        self.most_at_once = 0
        self.threads: set[str] = set()
        self._mock = MockEngine()
        self._admitted: list[Utterance] = []

    @property
    def speaking(self) -> list[str]:
        """The jobs that are being spoken."""
        return [utterance.job_id for utterance in self._admitted]

    def make_prompt(self, reference: Reference) -> VoicePrompt:
        """See `Engine.make_prompt`."""
        self._note_thread()
        self.held_prompts.wait(10)
        self.prompts_made += 1
        return self._mock.make_prompt(reference)

    def restore_prompt(self, document: bytes) -> VoicePrompt:
        """See `Engine.restore_prompt`."""
        self._note_thread()
        self.prompts_restored += 1
        return self._mock.restore_prompt(document)

    def admit(self, utterance: Utterance) -> None:
        """See `Engine.admit`."""
        self._note_thread()
        if error := self.refusals.get(utterance.text):
            raise error
        self.spoken.append(utterance.job_id)
        self._admitted.append(utterance)
        self.most_at_once = max(self.most_at_once, len(self._admitted))

    def step(self) -> list[Piece | Finished]:
        """See `Engine.step`."""
        self._note_thread()
        if self.step_errors:
            self._admitted.clear()
            raise self.step_errors.pop(0)
        if self.held:
            time.sleep(0.001)
            return []
        batch, self._admitted = self._admitted, []
        self.batches.append([utterance.job_id for utterance in batch])
        return [event for utterance in batch for event in self._finish(utterance)]

    def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`."""
        self._note_thread()
        self.cancelled.append(job_id)
        self._admitted = [utterance for utterance in self._admitted if utterance.job_id != job_id]

    def _finish(self, utterance: Utterance) -> list[Piece | Finished]:
        if error := self.errors.get(utterance.text):
            return [Finished(utterance.job_id, error=error)]
        assert isinstance(utterance.prompt, MockPrompt)
        first, last = np.array_split(hum(utterance.text, utterance.prompt), 2)
        return [
            Piece(utterance.job_id, 0, first),
            Piece(utterance.job_id, 1, last),
            Finished(utterance.job_id, warnings=self.warnings, seconds=0.5),
        ]

    def _note_thread(self) -> None:
        self.threads.add(threading.current_thread().name)


class ClosedBatchEngine(ScriptedEngine):
    """One that takes nothing in while it speaks, and so would rather wait a moment for a fuller batch."""

    gather_seconds = 0.2
