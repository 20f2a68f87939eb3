"""Stages of the engine for tests: a stand-in for graphs, failing devices, and rows without an engine."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import wait
from typing import Any

import torch

from gpu_runner.engines import Utterance
from gpu_runner.engines.qwen.allocation import Stages, build_stages
from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.generator import Generator
from gpu_runner.engines.qwen.job import Row
from gpu_runner.engines.qwen.network.frame import Status
from gpu_runner.engines.qwen.network.graph_sizes import GraphSizes
from gpu_runner.engines.qwen.network.graphs import Runner
from gpu_runner.engines.qwen.network.network import Network
from gpu_runner.engines.qwen.network.sampling import Sampling
from gpu_runner.engines.qwen.network.slots import Slots, allocate
from gpu_runner.engines.qwen.prompts import QwenPrompt
from tests.support.engines import EngineOutput, OutputCollector

GREEDY = Sampling(temperature=0, subtalker_temperature=0)
DRAWN = Sampling()
WIDE = Sampling(top_k=0, top_p=0.9, subtalker_top_p=0.8)

AllocateStages = Callable[[Model, int], Stages]


class FakeGraphs(Runner):
    """Repeats the first call of a key, like a captured graph, which ignores data outside of static buffers."""

    captures = True

    def __init__(self) -> None:
        self.functions: dict[Hashable, Callable[[], None]] = {}
        self.runs: list[Hashable] = []

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        self.runs.append(key)
        self.functions.setdefault(key, function)()


class FailingRunner(Runner):
    """Raises one error per run. None means that the run succeeds."""

    def __init__(self, errors: Iterator[Exception | None], *, after: bool = False) -> None:
        self.errors = errors
        self.after = after

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        error = next(self.errors, None)
        if error is None or self.after:
            function()
        if error is not None:
            raise error


def out_of_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def allocating(
    *, codes: Runner | None = None, samples: Runner | None = None, lag: int = 0, graphs: bool = False
) -> AllocateStages:
    """Return a function that allocates stages with these runners."""

    def build(model: Model, rows: int) -> Stages:
        runners = [given or (FakeGraphs() if graphs else Runner()) for given in (codes, samples)]
        return build_stages(model, rows, *runners, lag=lag)

    return build


def synthesize_at_once(engine: QwenEngine, *utterances: Utterance) -> dict[str, EngineOutput]:
    """Synthesize utterances that are all tokenized before the first step."""
    for utterance in utterances:
        engine.admit(utterance)
    wait([job.rows for job in engine._jobs.values()])
    collector = OutputCollector()
    while len(collector.results) < len(utterances):
        collector.collect(engine.step())
    return collector.results


def poison(slots: Slots, slot: int) -> None:
    """Fill the data of a slot with NaN, so that any use of it is detected."""
    slots.touched[slot] = slots.cache.shape[4]
    for buffer in (slots.cache, slots.predictor_cache):
        buffer[:, :, slot] = torch.nan
    for buffer in (slots.token, slots.text):
        buffer[slot] = torch.nan


def never_ending(network: Network) -> Network:
    """Return the network without the end token."""
    forbidden = network.forbidden.clone()
    forbidden[:, network.end] = -torch.inf
    return network._replace(forbidden=forbidden)


def ending_at_once(network: Network) -> Network:
    """Return the network with the end token as the only choice, as soon as it is allowed."""
    forbidden = network.forbidden.clone()
    forbidden[1] = -torch.inf
    forbidden[1, network.end] = 0
    return network._replace(forbidden=forbidden)


def row(model: Model, prompt: QwenPrompt, text: str = "Hello.", **more: Any) -> Row:
    """Create a row for a text."""
    transcript = model.tokens(prompt.transcript) if prompt.codes is not None else []
    fields = {
        "job_id": text,
        "part": 0,
        "text": text,
        "pause": 0.0,
        "language": "Auto",
        "sampling": GREEDY,
        "seed": 1,
        "cap": 12,
    }
    return Row(tokens=transcript + model.tokens(text), prompt=prompt, **{**fields, **more})


class RowRunner:
    """Runs rows in a generator."""

    def __init__(
        self, model: Model, *, slots: int = 4, length: int = 512, lag: int = 0, graphs: bool = False
    ) -> None:
        self.slots: Slots = allocate(model.network, slots, length)
        self.runner = FakeGraphs() if graphs else Runner()
        shapes = GraphSizes.for_graphs if graphs else GraphSizes.for_eager
        self.generator = Generator(model, self.slots, self.runner, shapes(slots, length), lag=lag)
        self.statuses: dict[str, int] = {}

    def admit(self, *rows: Row) -> None:
        with torch.inference_mode():
            self.generator.admit(rows)

    def advance(self) -> None:
        with torch.inference_mode():
            for done, status in self.generator.step():
                if status != Status.RUNNING:
                    self.statuses[done.job_id] = status
                    self.generator.release(done)

    def finish(self) -> None:
        while self.generator.rows:
            self.advance()


def run_rows(model: Model, *rows: Row, later: Sequence[Row] = (), **how: Any) -> RowRunner:
    """Run rows together. The `later` ones join one by one, a frame apart."""
    runner = RowRunner(model, **how)
    runner.admit(*rows)
    for one in later:
        runner.advance()
        runner.admit(one)
    runner.finish()
    return runner
