"""The thread that runs the engine, and its interface for the event loop."""

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
OnAudio = Callable[[Samples], object]

log = structlog.get_logger(__name__)


NAME = "engine"


class Stopping(Exception):
    """The worker is stopping, and this had not been started."""


class EngineFailed(Exception):
    """The engine failed the whole batch; a retry may succeed."""


@dataclass(frozen=True, slots=True)
class Speech:
    """An utterance's whole audio: mono float32 `samples` at the engine's rate; see `Finished` for the rest."""

    samples: Samples
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to the engine between two steps."""

    function: Callable[[Engine], object]
    result: Future[Any]

    def run(self, engine: Engine) -> None:
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            self.result.set_result(self.function(engine))
        except Exception as error:
            self.result.set_exception(error)
            if isinstance(error, EngineLost):
                raise
        except BaseException as error:
            self.result.set_exception(_lost_to(error))
            raise


@dataclass(frozen=True, slots=True)
class _Admission:
    """An utterance to admit as soon as there is capacity."""

    utterance: Utterance
    result: Future[Speech]
    on_audio: OnAudio | None
    pieces: list[Samples] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece.samples)
        if self.on_audio is not None:
            self.on_audio(piece.samples)

    def finish(self, finished: Finished) -> None:
        if finished.error is not None:
            self.result.set_exception(finished.error)
        elif not self.pieces:
            self.result.set_exception(EngineFailed("the engine returned neither audio nor an error"))
        else:
            self.result.set_result(Speech(np.concatenate(self.pieces), finished.warnings, finished.seconds))


@dataclass(frozen=True, slots=True)
class _Cancellation:
    """A job that nobody waits for any more."""

    job_id: str


_Command = _Call | _Admission | _Cancellation
_Commands = queue.SimpleQueue[_Command | None]  # None: end


class EngineThread:
    """Loads an engine in a thread of its own and steps it there while anything is admitted.

    All methods are for the event loop.  `close` rejects what has not been admitted; what has been always finishes.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._commands = _Commands()
        self._pending: set[Future[Any]] = set()
        self._closed = False
        self._loaded: Future[Engine] = Future()
        self._lost: Future[EngineLost] = Future()
        self._thread = threading.Thread(target=self._main, name=NAME, daemon=True)

    async def start(self) -> Engine:
        """Load the engine and return it; its attributes may be read, its methods not be called."""
        self._thread.start()
        return await asyncio.wrap_future(self._loaded)

    async def make_prompt(self, reference: Reference) -> VoicePrompt:
        """See `Engine.make_prompt`; raises `Stopping` and `EngineLost` too."""
        result: Future[VoicePrompt] = Future()
        return await self._send(_Call(lambda engine: engine.make_prompt(reference), result), result)

    async def restore_prompt(self, document: bytes) -> VoicePrompt:
        """See `Engine.restore_prompt`; raises `Stopping` and `EngineLost` too."""
        result: Future[VoicePrompt] = Future()
        return await self._send(_Call(lambda engine: engine.restore_prompt(document), result), result)

    async def synthesize(self, utterance: Utterance, on_audio: OnAudio | None = None) -> Speech:
        """Admit an utterance when there is capacity and wait for its end; cancelling the wait cancels it.

        `on_audio` is called on the event loop with the samples of each piece, in order, before this returns.

        Raises
        ------
        InvalidInput
            It can never be synthesized.
        PipelineError
            It failed alone.
        Stopping
            The worker stopped before it was admitted.
        EngineFailed, EngineLost
            The whole batch was lost.
        """
        result: Future[Speech] = Future()
        try:
            return await self._send(_Admission(utterance, result, _on_this_loop(on_audio)), result)
        except asyncio.CancelledError:
            self._commands.put(_Cancellation(utterance.job_id))
            raise

    async def lost(self) -> EngineLost:
        """Wait until the engine is lost, whatever the thread died of; return the error that every call raises."""
        return await asyncio.shield(asyncio.wrap_future(self._lost))

    def close(self) -> None:
        """Admit nothing more: what is waiting raises `Stopping`, what is admitted goes on."""
        self._closed = True
        for result in tuple(self._pending):
            result.cancel()

    async def end(self, timeout_seconds: float) -> None:
        """End the thread and wait for it no longer than this; it never keeps the process alive."""
        self.close()
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join, timeout_seconds)

    async def _send(self, command: _Call | _Admission, result: Future[T]) -> T:
        if self._closed:
            raise Stopping
        self._pending.add(result)
        self._commands.put(command)
        try:
            return await asyncio.wrap_future(result)
        except asyncio.CancelledError:
            if self._closed and result.cancelled():
                raise Stopping from None
            raise
        finally:
            self._pending.discard(result)

    def _main(self) -> None:
        self._loaded.set_running_or_notify_cancel()
        try:
            engine = self._load()
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(engine)
        loop = _EngineLoop(engine, self._commands)
        try:
            loop.run()
        except BaseException as error:
            lost = _lost_to(error)
            log.exception("engine thread failed")
            self._lost.set_result(lost)
            loop.reject(lost)
            _reject_all(self._commands, lost)


class _EngineLoop:
    """What the thread does: run commands, admit, step, repeat."""

    def __init__(self, engine: Engine, commands: _Commands) -> None:
        self._engine = engine
        self._commands = commands
        self._waiting: list[_Admission] = []
        self._admitted: dict[str, _Admission] = {}

    def run(self) -> None:
        while self._run_commands():
            self._admit()
            self._step()

    def reject(self, error: EngineLost) -> None:
        """Fail everything that is admitted or waits."""
        self._fail_batch(error)
        for admission in self._waiting:
            _reject(admission.result, error)

    def _run_commands(self) -> bool:
        """Run the commands since the last step; False when the thread is to end."""
        for command in self._next_commands():
            if command is None:
                return False
            match command:
                case _Admission():
                    self._waiting.append(command)
                case _Cancellation(job_id):
                    self._cancel(job_id)
                case _Call():
                    command.run(self._engine)
        return True

    def _cancel(self, job_id: str) -> None:
        if self._admitted.pop(job_id, None) is not None:
            self._engine.cancel(job_id)

    def _next_commands(self) -> Iterator[_Command | None]:
        while True:
            try:
                yield self._commands.get(timeout=self._timeout())
            except queue.Empty:
                return

    def _timeout(self) -> float | None:
        """Return the seconds to wait for another command before the next step; None: no limit."""
        taken = len(self._waiting) + len(self._admitted)
        if taken == 0:
            return None
        if isinstance(self._engine, ClosedBatches) and taken < self._engine.capacity:
            return self._engine.gather_seconds
        return 0.0

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
                admission.result.set_exception(_lost_to(error))
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


def _reject_all(commands: _Commands, error: EngineLost) -> None:
    """Reject every further command until the thread ends."""
    while (command := commands.get()) is not None:
        if not isinstance(command, _Cancellation):
            _reject(command.result, error)


def _on_this_loop(on_audio: OnAudio | None) -> OnAudio | None:
    if on_audio is None:
        return None
    loop = asyncio.get_running_loop()
    return lambda samples: loop.call_soon_threadsafe(on_audio, samples)


def _lost_to(error: BaseException) -> EngineLost:
    return error if isinstance(error, EngineLost) else EngineLost(f"{type(error).__name__}: {error}")


def _reject(result: Future[Any], error: Exception) -> None:
    if result.set_running_or_notify_cancel():
        result.set_exception(error)
