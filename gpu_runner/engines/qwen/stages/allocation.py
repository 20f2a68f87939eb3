"""Computes how many rows fit into memory, and allocates their buffers."""

from dataclasses import dataclass

import structlog
import torch

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.qwen.checkpoint.weights import free_memory
from gpu_runner.engines.qwen.model import LONGEST_SEQUENCE, Model
from gpu_runner.engines.qwen.network.buckets import Buckets
from gpu_runner.engines.qwen.network.graphs import EagerRunner, GraphRunner, Runner
from gpu_runner.engines.qwen.network.slots import allocate, bytes_per_slot
from gpu_runner.engines.qwen.stages.decoding import Decoder
from gpu_runner.engines.qwen.stages.generator import Generator

log = structlog.get_logger()

USED_SHARE = 0.8  # of the free memory; the rest is for activations, graphs and voice prompts
SPARE_STATES = 8  # of the codec: rows whose codes are complete still have a state while others take their slots


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages that rows go through, with all of their memory."""

    generator: Generator
    decoder: Decoder

    def capture(self) -> None:
        """Capture all graphs, where there are any."""
        self.generator.capture()
        self.decoder.capture()


@dataclass(frozen=True, slots=True)
class Plan:
    """The allocation: slots of `length` positions for generating codes, states for decoding them."""

    slots: int
    length: int
    states: int


def plan(model: Model, rows: int) -> Plan:
    """Plan for `rows` rows at a time, or as many as fit into memory, and log the plan.

    Raises
    ------
    CannotLoad
        There is no memory for a single one.
    """
    needed = bytes_per_slot(model.speech, LONGEST_SEQUENCE)
    state = model.decoder.size.total * model.decoder.dtype.itemsize
    free = free_memory(model.device)
    fitting = rows if free is None else int((free * USED_SHARE - SPARE_STATES * state) // (needed + state))
    slots = min(rows, fitting)
    facts = {"bytes_per_row": needed + state, "free_bytes": free, "positions": LONGEST_SEQUENCE}
    if slots < 1:
        raise CannotLoad(
            f"{model.device} has {(free or 0) / 2**30:.2f} GiB free after loading the model, and speaking one text "
            f"takes {needed / 2**30 / USED_SHARE:.2f} GiB; free some, use a larger device or a smaller model."
        )
    if slots < rows:
        log.warning("memory allows fewer rows than asked for", rows=slots, asked=rows, **facts)
    else:
        log.info("capacity planned", rows=slots, **facts)
    return Plan(slots, LONGEST_SEQUENCE, slots + SPARE_STATES)


def allocate_stages(model: Model, rows: int) -> Stages:
    """Allocate everything for `rows` rows at a time, or as many as fit into memory.

    Raises
    ------
    CannotLoad
        There is no memory for a single one.
    """
    planned = plan(model, rows)
    if model.device.type != "cuda":
        buckets = Buckets.for_eager(planned.slots, planned.length)
        return build_stages(model, planned, buckets, EagerRunner(), EagerRunner())
    buckets = Buckets.for_graphs(planned.slots, planned.length)
    # While the GPU computes a frame, the host reads the one before; on a CPU it is complete when the call returns.
    runners = GraphRunner(model.device), GraphRunner(model.device)
    stages = build_stages(model, planned, buckets, *runners, lag=1)
    torch.cuda.synchronize(model.device)  # what was computed on the default stream is used on others from here on
    return stages


@torch.inference_mode()
def build_stages(
    model: Model, planned: Plan, buckets: Buckets, for_codes: Runner, for_samples: Runner, *, lag: int = 0
) -> Stages:
    """Create the stages; codes and samples have a runner each, and the host is `lag` frames behind."""
    slots = allocate(model.speech, planned.slots, planned.length)
    return Stages(
        Generator(model.speech, slots, for_codes, buckets, lag=lag),
        Decoder(model.decoder, planned.states, for_samples, buckets),
    )
