"""Adds the watermark to the audio of jobs, between the engine and everything that receives the audio."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from gpu_runner.engines import Utterance
from gpu_runner.synthesis.engine_loop import OnAudio, Speech
from pipeline.audio.reference_audio import Samples
from pipeline.marking import watermark_network
from pipeline.marking.watermark_encoder import WatermarkEncoder, add_to_each

Synthesize = Callable[[Utterance, OnAudio], Coroutine[Any, Any, Speech]]
_Waiting = tuple[WatermarkEncoder, Samples, asyncio.Future[Samples]]

THREADS = 2  # they compute without the GIL; one marks 50 to 250 seconds of audio per second
TURN_SECONDS = 2  # of audio, at most
_TOGETHER = 8  # more take no less time each, and the first would wait for the last
_SENTENCE_SECONDS = 0.5
_END_FOLLOWS_SECONDS = 0.001


class _Pieces:
    """The audio of an utterance that was generated and not marked yet."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._waiting = deque[Samples]()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self.are_sentences: bool | None = None
        """Whether the engine returns whole sentences. None before the first piece."""

    def add(self, samples: Samples) -> None:
        """Add the next samples."""
        if self.are_sentences is None:
            self.are_sentences = len(samples) >= _SENTENCE_SECONDS * self._sample_rate
        self._waiting.append(samples)
        self._changed.set()

    def end(self) -> None:
        """State that all samples were added."""
        self._ended.set()
        self._changed.set()

    async def take(self) -> tuple[Samples, bool]:
        """Wait for a piece. Return pieces of up to `TURN_SECONDS`, or a longer one, and whether they are the last.

        Engines that return whole sentences end right after the last one. It is faster to mark its end with it.
        """
        await self._changed.wait()
        if self.are_sentences:
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_FOLLOWS_SECONDS):
                    await self._ended.wait()
        taken = [np.zeros(0, np.float32)]
        while self._waiting and sum(map(len, taken)) < TURN_SECONDS * self._sample_rate:
            taken.append(self._waiting.popleft())
        is_last = self._ended.is_set() and not self._waiting
        if not self._waiting and not is_last:
            self._changed.clear()
        return np.concatenate(taken), is_last


class _Encoding:
    """Runs encoders in other threads. Pieces of different jobs that wait for a thread are marked together."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._waiting = deque[_Waiting]()
        self._free = THREADS
        self._running = set[asyncio.Task[None]]()  # the event loop keeps only weak references

    async def add(self, encoder: WatermarkEncoder, samples: Samples) -> Samples:
        """Add samples to an encoder. Return the result of its `add`."""
        marked: asyncio.Future[Samples] = asyncio.get_running_loop().create_future()
        self._waiting.append((encoder, samples, marked))
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await marked

    async def finish(self, encoder: WatermarkEncoder, samples: Samples) -> Samples:
        """Add the last samples to an encoder. Return the result of its `finish`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, encoder.finish, samples)

    async def _run(self) -> None:
        """Mark pieces in one thread until none waits."""
        while self._waiting:
            await self._run_together([self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))])
        self._free += 1

    async def _run_together(self, waiting: Sequence[_Waiting]) -> None:
        pieces = [(encoder, samples) for encoder, samples, _ in waiting]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._threads, add_to_each, pieces)
        except Exception as error:
            for *_, marked in waiting:
                if not marked.cancelled():
                    marked.set_exception(error)
        else:
            for (*_, marked), result in zip(waiting, results, strict=True):
                if not marked.cancelled():
                    marked.set_result(result)


class Watermarking:
    """Marks the audio of jobs in other threads, so that neither the engine nor the event loop waits for it."""

    def __init__(self, synthesize: Synthesize, threads: ThreadPoolExecutor, sample_rate: int) -> None:
        self._synthesize = synthesize
        self._encoding = _Encoding(threads)
        self._sample_rate = sample_rate
        threads.submit(watermark_network.layers_of, "encoder.layers")  # reads the weights before the first job

    async def synthesize(self, utterance: Utterance, on_audio: OnAudio) -> Speech:
        """Synthesize an utterance as `EngineThread.synthesize` does, and mark its audio while it is generated.

        Cancelling the wait cancels both. The samples that `on_audio` receives are those of the result.
        """
        pieces = _Pieces(self._sample_rate)
        marking = asyncio.create_task(self._mark(pieces, on_audio))
        try:
            speech = await self._synthesize(utterance, pieces.add)
            pieces.end()
            return replace(speech, samples=await marking)
        finally:
            marking.cancel()

    async def _mark(self, pieces: _Pieces, on_audio: OnAudio) -> Samples:
        """Mark all pieces. The jobs take turns in the threads."""
        samples, is_last = await pieces.take()
        encoder = WatermarkEncoder(self._sample_rate)
        marked: list[Samples] = []
        while True:
            mark = self._encoding.finish if is_last else self._encoding.add
            marked.append(await mark(encoder, samples))
            if len(marked[-1]):
                on_audio(marked[-1])
            if is_last:
                return np.concatenate(marked)
            samples, is_last = await pieces.take()
