"""Load for the engine: rows of ragged lengths in several voices, in a closed loop or as they happen to come."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from gpu_runner.engines import Finished, Piece, Reference, Utterance
from gpu_runner.engines.qwen.checkpoint.model import FRAMES_PER_SECOND, SAMPLE_RATE
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.prompts import QwenPrompt
from pipeline.audio.reference_audio import Recording
from pipeline.contract.records import Options

# On a CPU that others use too, the time that this process has had says more than the time that passed.
clock = time.perf_counter if torch.cuda.is_available() else time.process_time

SAID = "This is what the speaker says in the reference, at the pace of one who reads it to others. "
TEXT = "Here is a text of the length that people try a voice with: two sentences or three. It is the same for all."


@dataclass(frozen=True, slots=True)
class Size:
    """How large the load is: references in seconds, frames a text, and how many texts for each in flight."""

    references: Sequence[float]
    frames: tuple[int, int]
    rounds: int


FULL = Size((5.0, 6.5, 8.0, 10.0), (27, 81), 4)  # 63 to 125 frames of reference, 54 frames of speech on average
SMALL = Size((2.0,), (13, 19), 2)


@dataclass(slots=True)
class Result:
    """What came of a load; times are in seconds, those to the first pieces by the clock on the wall."""

    began: float = field(default_factory=clock)
    took: float = 0.0
    steps: int = 0
    frames: int = 0
    first_pieces: list[float] = field(default_factory=list)
    samples: dict[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """Return the figures."""
        audio = sum(self.samples.values()) / SAMPLE_RATE
        first = sorted(self.first_pieces)
        return {
            "ms_per_step": round(self.took / max(1, self.steps) * 1000, 3),
            "audio_seconds_per_second": round(audio / self.took, 2),
            "first_piece_p50_ms": round(first[len(first) // 2] * 1000, 1),
            "first_piece_p95_ms": round(first[int(len(first) * 0.95)] * 1000, 1),
            "texts": len(self.samples),
        }


def voices(engine: QwenEngine, size: Size) -> list[QwenPrompt]:
    """Create a voice of each reference."""
    return [engine.make_prompt(reference(seconds)) for seconds in size.references]


def reference(seconds: float) -> Reference:
    """Return a synthetic recording of so many seconds."""
    moments = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * moments)
    wave = 0.3 * np.sin(2 * np.pi * (120 + 10 * seconds) * moments) * syllables
    return Reference(Recording(wave.astype(np.float32), SAMPLE_RATE), SAID * max(1, round(seconds / 5)))


def utterances(prompts: Sequence[QwenPrompt], size: Size, seed: int = 1) -> Iterator[Utterance]:
    """Return texts without end, the same ones for a seed."""
    chance = random.Random(seed)
    number = 0
    while True:
        frames = chance.randint(*size.frames)
        options = Options(max_seconds=max(1.0, frames / FRAMES_PER_SECOND))
        yield Utterance(f"{seed}-{number}", TEXT, prompts[number % len(prompts)], options)
        number += 1


def closed_loop(engine: QwenEngine, texts: Iterator[Utterance], in_flight: int, count: int) -> Result:
    """Speak `count` texts, `in_flight` at a time: one that ends is replaced."""
    load = _Load(engine)
    for _ in range(min(in_flight, count)):
        load.admit(next(texts))
    started = in_flight
    while load.open:
        for _ in range(load.step()):
            if started < count:
                load.admit(next(texts))
                started += 1
    return load.finish()


def poisson(engine: QwenEngine, texts: Iterator[Utterance], per_second: float, count: int, seed: int = 1) -> Result:
    """Speak `count` texts that come independently of each other, so many a second on average."""
    chance, load = random.Random(seed), _Load(engine)
    due, arrived, waiting = time.perf_counter(), 0, list[Utterance]()
    while arrived < count or load.open or waiting:
        while arrived < count and due <= time.perf_counter():
            waiting.append(next(texts))
            arrived += 1
            due += chance.expovariate(per_second)
        while waiting and len(load.open) < engine.capacity:
            load.admit(waiting.pop(0))
        if load.open:
            load.step()
        else:
            time.sleep(0.001)
    return load.finish()


class _Load:
    """An engine at work, watched."""

    def __init__(self, engine: QwenEngine) -> None:
        self.open: dict[str, float] = {}
        self._engine = engine
        self._result = Result()

    def admit(self, utterance: Utterance) -> None:
        self.open[utterance.job_id] = time.perf_counter()
        self._engine.admit(utterance)

    def step(self) -> int:
        """Step once; return how many texts ended."""
        ended = 0
        self._result.steps += 1
        for event in self._engine.step():
            match event:
                case Piece():
                    self._hear(event)
                case Finished():
                    if event.error is not None:
                        raise event.error
                    del self.open[event.job_id]
                    ended += 1
        return ended

    def finish(self) -> Result:
        self._result.took = clock() - self._result.began
        return self._result

    def _hear(self, piece: Piece) -> None:
        if piece.seq == 0:
            self._result.first_pieces.append(time.perf_counter() - self.open[piece.job_id])
        heard = self._result.samples.get(piece.job_id, 0)
        self._result.samples[piece.job_id] = heard + len(piece.samples)
