"""The threads that run the engine, and their interface for the event loop."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import structlog

from gpu_runner.engines import Engine, EngineLost, Reference, Utterance, VoicePrompt
from gpu_runner.synthesis.engine_loop import (
    Admission,
    Call,
    Cancellation,
    Commands,
    EngineLoop,
    Loss,
    OnAudio,
    Speech,
    as_engine_lost,
    reject,
    reject_all,
)

T = TypeVar("T")
C = TypeVar("C")

log = structlog.get_logger(__name__)


NAME, PROMPTS_NAME = "engine", "engine prompts"


class Stopping(Exception):
    """The worker is stopping, and this had not been started."""


class EngineThread:
    """Loads an engine in a thread of its own and steps it there while anything is admitted.

    A second thread creates and restores voice prompts, so that no frame waits for one.

    All methods are for the event loop. `close` rejects waiting utterances. Admitted ones always finish.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._commands = Commands()
        self._pending: set[Future[Any]] = set()
        self._closed = False
        self._loaded: Future[Engine] = Future()
        self._lost: Future[EngineLost] = Future()
        self._thread = threading.Thread(target=self._main, name=NAME, daemon=True)
        self._calls = queue.SimpleQueue[Call | None]()  # None: end

    async def start(self) -> Engine:
        """Load the engine and return it. Its attributes may be read, but its methods must not be called."""
        self._thread.start()
        return await asyncio.wrap_future(self._loaded)

    async def make_prompt(self, reference: Reference) -> VoicePrompt:
        """Create a prompt with `Engine.make_prompt`. Raises `Stopping` and `EngineLost` too."""
        return await self._call(lambda engine: engine.make_prompt(reference))

    async def restore_prompt(self, document: bytes) -> VoicePrompt:
        """Load a prompt with `Engine.restore_prompt`. Raises `Stopping` and `EngineLost` too."""
        return await self._call(lambda engine: engine.restore_prompt(document))

    async def synthesize(self, utterance: Utterance, on_audio: OnAudio | None = None) -> Speech:
        """Admit an utterance when there is capacity and wait for its end. Cancelling the wait cancels it.

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
            admission = Admission(utterance, result, _on_this_loop(on_audio))
            return await self._send(self._commands.put, admission, result)
        except asyncio.CancelledError:
            self._commands.put(Cancellation(utterance.job_id))
            raise

    async def lost(self) -> EngineLost:
        """Wait until the engine is lost. Return the error that every later call raises."""
        return await asyncio.shield(asyncio.wrap_future(self._lost))

    def close(self) -> None:
        """Admit nothing more: waiting utterances raise `Stopping`, admitted ones continue."""
        self._closed = True
        for result in tuple(self._pending):
            result.cancel()

    async def end(self, timeout_seconds: float) -> None:
        """End the thread and wait for it no longer than this. It never keeps the process alive."""
        self.close()
        self._commands.put(None)
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join, timeout_seconds)

    async def _call(self, function: Callable[[Engine], T]) -> T:
        result: Future[T] = Future()
        return await self._send(self._calls.put, Call(function, result), result)

    async def _send(self, put: Callable[[C], None], command: C, result: Future[T]) -> T:
        if self._closed:
            raise Stopping
        self._pending.add(result)
        put(command)
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
        threading.Thread(target=self._run_calls, args=(engine,), name=PROMPTS_NAME, daemon=True).start()
        loop = EngineLoop(engine, self._commands)
        try:
            loop.run()
        except BaseException as error:
            lost = as_engine_lost(error)
            log.exception("engine thread failed")
            self._lost.set_result(lost)
            loop.reject(lost)
            reject_all(self._commands, lost)

    def _run_calls(self, engine: Engine) -> None:
        while (call := self._calls.get()) is not None:
            if self._lost.done():
                reject(call.result, self._lost.result())
                continue
            call.run(engine, lambda lost: self._commands.put(Loss(lost)))


def _on_this_loop(on_audio: OnAudio | None) -> OnAudio | None:
    if on_audio is None:
        return None
    loop = asyncio.get_running_loop()
    return lambda samples: loop.call_soon_threadsafe(on_audio, samples)
