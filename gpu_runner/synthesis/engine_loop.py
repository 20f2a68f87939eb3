"""The loop of the engine's thread: run commands, admit, step, repeat."""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from gpu_runner.engines import Engine, EngineLost, Finished, Piece, Utterance
from pipeline.audio.reference_audio import Samples
from pipeline.contract.records import FinishReason

OnAudio = Callable[[Samples], object]

log = structlog.get_logger(__name__)


class EngineFailed(Exception):
    """The engine failed the whole batch. A retry may succeed."""


@dataclass(frozen=True, slots=True)
class Speech:
    """An utterance's whole audio: mono float32 `samples` at the engine's rate. See `Finished` for the rest."""

    samples: Samples
    warnings: tuple[str, ...]
    seconds: float
    finish_reason: FinishReason
    may_retry: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A call to the engine between or during its steps."""

    function: Callable[[Engine], object]
    result: Future[Any]

    def run(self, engine: Engine, on_loss: Callable[[EngineLost], None]) -> None:
        """Call the engine, unless the result has been cancelled."""
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            self.result.set_result(self.function(engine))
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, EngineLost):
                self.result.set_exception(error)
                return
            lost = as_engine_lost(error)
            on_loss(lost)  # before any caller can react to it
            self.result.set_exception(lost)


@dataclass(frozen=True, slots=True)
class Admission:
    """An utterance to admit as soon as there is capacity."""

    utterance: Utterance
    result: Future[Speech]
    on_audio: OnAudio | None
    pieces: list[Samples] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Add the next piece of its audio."""
        self.pieces.append(piece.samples)
        if self.on_audio is not None:
            self.on_audio(piece.samples)

    def finish(self, finished: Finished) -> None:
        """Set the result."""
        if finished.error is not None:
            self.result.set_exception(finished.error)
        elif not self.pieces:
            self.result.set_exception(EngineFailed("the engine returned neither audio nor an error"))
        else:
            self.result.set_result(
                Speech(
                    np.concatenate(self.pieces),
                    finished.warnings,
                    finished.seconds,
                    finished.finish_reason,
                    finished.may_retry,
                )
            )


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A job whose result has been cancelled."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Loss:
    """The engine was lost in a call other than a step."""

    error: EngineLost


Command = Admission | Cancellation | Loss
Commands = queue.SimpleQueue[Command | None]  # None: end


class EngineLoop:
    """The loop of the thread: run commands, admit, step, repeat."""

    def __init__(self, engine: Engine, commands: Commands) -> None:
        self._engine = engine
        self._commands = commands
        self._waiting: list[Admission] = []
        self._admitted: dict[str, Admission] = {}

    def run(self) -> None:
        """Run until the end command."""
        while self._run_commands():
            self._admit()
            self._step()

    def reject(self, error: EngineLost) -> None:
        """Fail everything that is admitted or waits."""
        self._fail_batch(error)
        for admission in self._waiting:
            reject(admission.result, error)

    def _run_commands(self) -> bool:
        """Run the commands since the last step. False when the thread is to end."""
        for command in self._next_commands():
            if command is None:
                return False
            match command:
                case Admission():
                    self._waiting.append(command)
                case Cancellation(job_id):
                    self._cancel(job_id)
                case Loss(error):
                    raise error
        return True

    def _cancel(self, job_id: str) -> None:
        if self._admitted.pop(job_id, None) is not None:
            self._engine.cancel(job_id)

    def _next_commands(self) -> Iterator[Command | None]:
        """Yield the commands so far. Wait for one if nothing is admitted or waits."""
        while True:
            try:
                yield self._commands.get(block=not (self._waiting or self._admitted))
            except queue.Empty:
                return

    def _admit(self) -> None:
        while self._waiting and len(self._admitted) < self._engine.capacity:
            admission = self._waiting.pop(0)
            if not admission.result.set_running_or_notify_cancel():
                continue
            try:
                self._engine.admit(admission.utterance)
            except Exception as error:
                admission.result.set_exception(error)
                if isinstance(error, EngineLost):
                    raise
            except BaseException as error:
                admission.result.set_exception(as_engine_lost(error))
                raise
            else:
                self._admitted[admission.utterance.job_id] = admission
                log.debug("synthesis started", job_id=admission.utterance.job_id, batch_size=len(self._admitted))

    def _step(self) -> None:
        if not self._admitted:
            return
        try:
            events = list(self._engine.step())
        except EngineLost:
            raise
        except Exception as error:
            log.exception("engine step failed", jobs=len(self._admitted))
            self._fail_batch(EngineFailed(f"{type(error).__name__}: {error}"))
            return
        for event in events:
            match event:
                case Piece():
                    self._admitted[event.job_id].add(event)
                case Finished():
                    self._admitted.pop(event.job_id).finish(event)

    def _fail_batch(self, error: Exception) -> None:
        for admission in self._admitted.values():
            admission.result.set_exception(error)
        self._admitted.clear()


def reject_all(commands: Commands, error: EngineLost) -> None:
    """Reject every further command until the thread ends."""
    while (command := commands.get()) is not None:
        if isinstance(command, Admission):
            reject(command.result, error)


def as_engine_lost(error: BaseException) -> EngineLost:
    """Return the error for callers of an engine whose thread ended with this one."""
    return error if isinstance(error, EngineLost) else EngineLost(f"{type(error).__name__}: {error}")


def reject(result: Future[Any], error: Exception) -> None:
    """Set an error as the result, unless it has been cancelled."""
    if result.set_running_or_notify_cancel():
        result.set_exception(error)
