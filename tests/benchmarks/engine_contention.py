"""What the worker's storage calls cost the engine's thread: `python -m tests.benchmarks.engine_contention`.

The real engine speaks with a tiny model in a thread, while the event loop of the same process makes storage calls
at a fixed rate: none, by clients of this process, or by those of a client process, as a worker does with
`WORKER_CLIENT_PROCESSES=1`.  With the tiny model a step is mostly Python, which holds the GIL: the worst case.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import torch

from gpu_runner.clients.pool import in_processes
from gpu_runner.engines import Finished
from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.engine import QwenEngine
from pipeline.clients.resources import Resources
from pipeline.settings import Settings
from tests.benchmarks.embedded_worker import embedded_store
from tests.benchmarks.qwen_load import SMALL, utterances, voices
from tests.qwen import tiny_checkpoint
from tests.qwen.stages import never_ending

IN_FLIGHT = 8


def steps(engine: QwenEngine, count: int) -> list[float]:
    """Return how long each of `count` steps took, in milliseconds, with texts replaced as they end."""
    texts = utterances(voices(engine, SMALL), SMALL)
    for _ in range(IN_FLIGHT):
        engine.admit(next(texts))
    taken = []
    open_ = IN_FLIGHT
    while open_:
        began = time.perf_counter()
        ended = [event for event in engine.step() if isinstance(event, Finished)]
        taken.append((time.perf_counter() - began) * 1000)
        open_ -= len(ended)
        if len(taken) < count:
            for _ in ended:
                engine.admit(next(texts))
                open_ += 1
    return taken


async def call_storage(resources: Resources, per_second: float) -> None:
    """Put and get a small object, so many calls a second, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for number in range(1_000_000):
            group.create_task(_call(resources, number))
            await asyncio.sleep(1 / per_second)


async def _call(resources: Resources, number: int) -> None:
    key = f"benchmark/{number % 64 // 2}"
    if number % 2:
        await resources.bucket.get(key)
    else:
        await resources.bucket.put(key, b"{}" * 500, "application/json")


async def median_step(engine: QwenEngine, resources: Resources | None, count: int, per_second: float) -> float:
    """Return the median step in milliseconds, while calls are made by these clients."""
    calling = asyncio.create_task(call_storage(resources, per_second)) if resources else None
    try:
        return statistics.median(await asyncio.to_thread(steps, engine, count))
    finally:
        if calling:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)


@asynccontextmanager
async def tiny_engine() -> AsyncIterator[QwenEngine]:
    """Load the engine with a tiny model that is made for it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = tiny_checkpoint.build(Path(folder))
        settings = Settings.model_validate({"tts_backend": "qwen", "qwen_tts_model_id": str(checkpoint)})
        model = open_model(settings)
        model.__dict__["network"] = never_ending(model.network)
        engine = QwenEngine(lambda: model, capacity=IN_FLIGHT, model="tiny")
        engine.warm_up()
        yield engine


async def compare(count: int, rounds: int, per_second: float) -> None:
    """Measure the three in turns, and print the medians of their rounds and the ratios to the first."""
    medians: dict[str, list[float]] = {"no calls": [], "clients of this process": [], "a client process": []}
    async with tiny_engine() as engine, embedded_store() as resources, in_processes(resources, 1) as remote:
        for _ in range(rounds):
            for name, clients in zip(medians, (None, resources, remote), strict=True):
                medians[name].append(await median_step(engine, clients, count, per_second))
    quiet = statistics.median(medians["no calls"])
    print(f"| {per_second:g} storage calls a second by | ms a step | ratio |\n|---|---|---|")
    for name, values in medians.items():
        print(f"| {name} | {statistics.median(values):.2f} | {statistics.median(values) / quiet:.2f} |")


def main() -> None:
    """Measure and print, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=float, default=100)
    arguments = parser.parse_args()
    asyncio.run(compare(arguments.steps, arguments.rounds, arguments.calls))


if __name__ == "__main__":
    main()
