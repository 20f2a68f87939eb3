"""Adds the watermark to the audio of jobs, between the engine and everything that receives the audio."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np

from gpu_runner.engines import Utterance
from gpu_runner.synthesis.engine_loop import OnAudio, Speech
from pipeline.audio.reference_audio import Samples
from pipeline.marking import watermark_network
from pipeline.marking.watermark_encoder import WatermarkEncoder

Pieces = asyncio.Queue[Samples | None]  # None: end
Synthesize = Callable[[Utterance, OnAudio], Coroutine[Any, Any, Speech]]


class Watermarking:
    """Marks the audio of jobs in other threads, so that neither the engine nor the event loop waits for it."""

    def __init__(self, synthesize: Synthesize, threads: Executor, sample_rate: int) -> None:
        self._synthesize = synthesize
        self._threads = threads
        self._sample_rate = sample_rate
        threads.submit(watermark_network.layers_of, "encoder.layers")  # reads the weights before the first job

    async def synthesize(self, utterance: Utterance, on_audio: OnAudio) -> Speech:
        """Synthesize an utterance as `EngineThread.synthesize` does, and mark its audio while it is generated.

        Cancelling the wait cancels both. The samples that `on_audio` receives are those of the result.
        """
        pieces = Pieces()
        marking = asyncio.create_task(self._mark(pieces, on_audio))
        try:
            speech = await self._synthesize(utterance, pieces.put_nowait)
            pieces.put_nowait(None)
            return replace(speech, samples=await marking)
        finally:
            marking.cancel()

    async def _mark(self, pieces: Pieces, on_audio: OnAudio) -> Samples:
        """Mark the pieces up to None. The jobs take turns in the threads, with two seconds of audio at most."""
        loop = asyncio.get_running_loop()
        encoder = await loop.run_in_executor(self._threads, WatermarkEncoder, self._sample_rate)
        marked: list[Samples] = []
        is_last = False
        while not is_last:
            samples, is_last = await _available(pieces, 2 * self._sample_rate)
            marked.append(await loop.run_in_executor(self._threads, _encode, encoder, samples, is_last))
            if len(marked[-1]):
                on_audio(marked[-1])
        return np.concatenate(marked)


async def _available(pieces: Pieces, enough: int) -> tuple[Samples, bool]:
    """Wait for the next piece. Return the pieces up to `enough` samples, and whether they are the last ones."""
    piece, taken = await pieces.get(), [np.zeros(0, np.float32)]
    while piece is not None:
        taken.append(piece)
        if pieces.empty() or sum(map(len, taken)) >= enough:
            break
        piece = pieces.get_nowait()
    return np.concatenate(taken), piece is None


def _encode(encoder: WatermarkEncoder, samples: Samples, is_last: bool) -> Samples:
    marked = encoder.add(samples)
    return np.concatenate([marked, encoder.finish()]) if is_last else marked
