"""The one thread in which an engine lives, and the way to it from the event loop."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import structlog

from gpu_runner.engines import (
    ClosedBatches,
    Engine,
    EngineLost,
    Finished,
    Piece,
    Reference,
    Utterance,
    VoicePrompt,
)
from pipeline.audio.reference_audio import Samples

T = TypeVar("T")

log = structlog.get_logger(__name__)


NAME = "engine"


class Stopping(Exception):
    """The worker is stopping, and this had not been begun."""


class EngineFailed(Exception):
    """The engine lost everything that it was speaking; it may do better the next time."""


@dataclass(frozen=True, slots=True)
class Speech:
    """An utterance's whole audio: mono float32 `samples` at the engine's rate; see `Finished` for the rest."""

    samples: Samples
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Call:
    """Something to ask of the engine between two steps."""

    ask: Callable[[Engine], object]
    answer: Future[Any]

    def run(self, engine: Engine) -> None:
        if not self.answer.set_running_or_notify_cancel():
            return
        try:
            self.answer.set_result(self.ask(engine))
        except Exception as error:
            self.answer.set_exception(error)
            if isinstance(error, EngineLost):
                raise


@dataclass(frozen=True, slots=True)
class _Admission:
    """Something to speak as soon as there is room."""

    utterance: Utterance
    answer: Future[Speech]
    pieces: list[Samples] = field(default_factory=list)

    def finish(self, finished: Finished) -> None:
        if finished.error is not None:
            self.answer.set_exception(finished.error)
        elif not self.pieces:
            self.answer.set_exception(EngineFailed("the engine returned neither audio nor an error"))
        else:
            self.answer.set_result(Speech(np.concatenate(self.pieces), finished.warnings, finished.seconds))


@dataclass(frozen=True, slots=True)
class _Cancellation:
    """Something that nobody waits for any more."""

    job_id: str


_Command = _Call | _Admission | _Cancellation
_Commands = queue.SimpleQueue[_Command | None]  # None: end


class EngineThread:
    """Loads an engine in a thread of its own and steps it there as long as there is something to speak.

    All methods are for the event loop.  What waits for the engine can be given back at any moment by `close`;
    what it has begun always comes to its end.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._commands = _Commands()
        self._unanswered: set[Future[Any]] = set()
        self._closed = False
        self._loaded: Future[Engine] = Future()
        self._thread = threading.Thread(target=self._main, name=NAME, daemon=True)

    async def start(self) -> Engine:
        """Load the engine; the answer is for looking at, not for calling."""
        self._thread.start()
        return await asyncio.wrap_future(self._loaded)

    async def make_prompt(self, reference: Reference) -> VoicePrompt:
        """See `Engine.make_prompt`; raises `Stopping` and `EngineLost` too."""
        answer: Future[VoicePrompt] = Future()
        return await self._answered(_Call(lambda engine: engine.make_prompt(reference), answer), answer)

    async def restore_prompt(self, document: bytes) -> VoicePrompt:
        """See `Engine.restore_prompt`; raises `Stopping` and `EngineLost` too."""
        answer: Future[VoicePrompt] = Future()
        return await self._answered(_Call(lambda engine: engine.restore_prompt(document), answer), answer)

    async def speak(self, utterance: Utterance) -> Speech:
        """Admit an utterance when there is room, and wait for its end; who stops waiting gives it up.

        Raises
        ------
        InvalidInput
            It can never be spoken.
        PipelineError
            It failed alone.
        Stopping
            The worker stopped before the engine had it.
        EngineFailed, EngineLost
            All that was being spoken was lost.
        """
        answer: Future[Speech] = Future()
        try:
            return await self._answered(_Admission(utterance, answer), answer)
        except asyncio.CancelledError:
            self._commands.put(_Cancellation(utterance.job_id))
            raise

    def close(self) -> None:
        """Begin nothing more; what is waiting raises `Stopping`, what is being spoken goes on."""
        self._closed = True
        for answer in tuple(self._unanswered):
            answer.cancel()

    async def end(self, patience_seconds: float) -> None:
        """Let the thread end, if it does so in this time; it never keeps the process alive."""
        self.close()
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join, patience_seconds)

    async def _answered(self, command: _Call | _Admission, answer: Future[T]) -> T:
        if self._closed:
            raise Stopping
        self._unanswered.add(answer)
        self._commands.put(command)
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            if self._closed and answer.cancelled():
                raise Stopping from None
            raise
        finally:
            self._unanswered.discard(answer)

    def _main(self) -> None:
        self._loaded.set_running_or_notify_cancel()
        try:
            engine = self._load()
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(engine)
        try:
            _Stage(engine, self._commands).play()
        except EngineLost as error:
            _refuse_all(self._commands, error)


class _Stage:
    """What happens in the thread: take what was asked, admit, step, and again."""

    def __init__(self, engine: Engine, commands: _Commands) -> None:
        self._engine = engine
        self._commands = commands
        self._waiting: list[_Admission] = []
        self._admitted: dict[str, _Admission] = {}

    def play(self) -> None:
        try:
            while self._take_commands():
                self._admit()
                self._step()
        except EngineLost as error:
            self._lose(error)
            for admission in self._waiting:
                _refuse(admission.answer, error)
            raise

    def _take_commands(self) -> bool:
        """Do what was asked since the last step; False when it was to end."""
        for command in self._arrived():
            if command is None:
                return False
            match command:
                case _Admission():
                    self._waiting.append(command)
                case _Cancellation(job_id):
                    self._give_up(job_id)
                case _Call():
                    command.run(self._engine)
        return True

    def _give_up(self, job_id: str) -> None:
        if self._admitted.pop(job_id, None) is not None:
            self._engine.cancel(job_id)

    def _arrived(self) -> Iterator[_Command | None]:
        while True:
            try:
                yield self._commands.get(timeout=self._patience())
            except queue.Empty:
                return

    def _patience(self) -> float | None:
        """How long to wait for one more command before the next step, in seconds; None: for ever."""
        taken = len(self._waiting) + len(self._admitted)
        if taken == 0:
            return None
        if isinstance(self._engine, ClosedBatches) and taken < self._engine.capacity:
            return self._engine.gather_seconds
        return 0.0

    def _admit(self) -> None:
        while self._waiting and len(self._admitted) < self._engine.capacity:
            admission = self._waiting.pop(0)
            if not admission.answer.set_running_or_notify_cancel():
                continue
            try:
                self._engine.admit(admission.utterance)
            except Exception as error:
                admission.answer.set_exception(error)
                if isinstance(error, EngineLost):
                    raise
            else:
                self._admitted[admission.utterance.job_id] = admission
                log.debug("speaking", job_id=admission.utterance.job_id, together=len(self._admitted))

    def _step(self) -> None:
        if not self._admitted:
            return
        try:
            events = list(self._engine.step())
        except EngineLost:
            raise
        except Exception as error:
            log.exception("engine step failed", lost=len(self._admitted))
            self._lose(EngineFailed(f"{type(error).__name__}: {error}"))
            return
        for event in events:
            match event:
                case Piece():
                    self._admitted[event.job_id].pieces.append(event.samples)
                case Finished():
                    self._admitted.pop(event.job_id).finish(event)

    def _lose(self, error: Exception) -> None:
        for admission in self._admitted.values():
            admission.answer.set_exception(error)
        self._admitted.clear()


def _refuse_all(commands: _Commands, error: EngineLost) -> None:
    """Answer whatever still comes, until the end."""
    while (command := commands.get()) is not None:
        if not isinstance(command, _Cancellation):
            _refuse(command.answer, error)


def _refuse(answer: Future[Any], error: Exception) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)
