"""Computes how many rows fit into memory, and allocates the generator and the decoder for them."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import torch

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.qwen.checkpoint.model import LONGEST_SEQUENCE, Model
from gpu_runner.engines.qwen.checkpoint.out_of_memory import OutOfMemory, release_memory, translate_device_errors
from gpu_runner.engines.qwen.checkpoint.weights import free_memory
from gpu_runner.engines.qwen.decoder import Decoder
from gpu_runner.engines.qwen.generator import Generator
from gpu_runner.engines.qwen.network.graph_sizes import GraphSizes
from gpu_runner.engines.qwen.network.graphs import GraphRunner, Runner
from gpu_runner.engines.qwen.network.slots import allocate, bytes_per_slot

log = structlog.get_logger()

USED_SHARE = 0.8  # of the free memory; the rest is for activations, graphs and voice prompts
SPARE_STATES = 8  # of the codec: rows that have all their codes keep a state while other rows use their slots


@dataclass(frozen=True, slots=True)
class Stages:
    """The two stages of a row, with all of their memory."""

    generator: Generator
    decoder: Decoder


def plan_slots(model: Model, rows: int) -> int:
    """Return the number of slots for `rows` rows at a time, or as many as fit into memory, and log it.

    Raises
    ------
    CannotLoad
        There is no memory for a single row.
    """
    slot = bytes_per_slot(model.network, LONGEST_SEQUENCE)
    state = model.codec.state_size * model.codec.dtype.itemsize
    free = free_memory(model.device)
    fitting = rows if free is None else int((free * USED_SHARE - SPARE_STATES * state) // (slot + state))
    slots = min(rows, fitting)
    facts = {"bytes_per_row": slot + state, "free_bytes": free, "positions": LONGEST_SEQUENCE}
    if slots < 1:
        raise CannotLoad(
            f"{model.device} has {(free or 0) / 2**30:.2f} GiB free after loading the model, and one text needs "
            f"{slot / 2**30 / USED_SHARE:.2f} GiB. Free some memory, or use a larger device or a smaller model."
        )
    if slots < rows:
        log.warning("memory allows fewer rows than requested", rows=slots, requested=rows, **facts)
    else:
        log.info("capacity planned", rows=slots, **facts)
    return slots


def allocate_stages(model: Model, rows: int, wrap: Callable[[Runner], Runner] = lambda runner: runner) -> Stages:
    """Allocate everything for `rows` rows at a time, or as many as fit into memory, and capture the graphs.

    The graphs take memory too. If it runs out, the number of rows is halved. `wrap` can measure the runners.

    Raises
    ------
    CannotLoad
        There is no memory for a single row.
    """
    slots = plan_slots(model, rows)
    while True:
        try:
            with translate_device_errors(), torch.inference_mode():
                stages = _stages_of(model, slots, wrap)
                stages.generator.capture()
                stages.decoder.capture()
                return stages
        except OutOfMemory as error:
            reason = str(error)
        release_memory(model.device)  # after the exception is gone, whose traceback keeps the tensors
        if slots == 1:
            raise CannotLoad(f"{model.device} has too little memory for one text: {reason}. Use a larger device.")
        log.warning("out of memory, allocating fewer rows", before=slots, now=slots // 2, reason=reason)
        slots //= 2


def _stages_of(model: Model, slots: int, wrap: Callable[[Runner], Runner]) -> Stages:
    if model.device.type != "cuda":
        return build_stages(model, slots, wrap(Runner()), wrap(Runner()))
    # The next frame of all rows matters more than samples, which are buffered by the client.
    for_codes, for_samples = wrap(GraphRunner(model.device, priority=-1)), wrap(GraphRunner(model.device))
    # While the GPU computes a frame, the host reads the one before. On a CPU it is complete when the call returns.
    stages = build_stages(model, slots, for_codes, for_samples, lag=1)
    torch.cuda.synchronize(model.device)  # other streams use the results of the default stream from here on
    return stages


@torch.inference_mode()
def build_stages(model: Model, slots: int, for_codes: Runner, for_samples: Runner, *, lag: int = 0) -> Stages:
    """Create the stages. Codes and samples have a runner each, and the host is `lag` frames behind."""
    sizes = (GraphSizes.for_graphs if for_codes.captures else GraphSizes.for_eager)(slots, LONGEST_SEQUENCE)
    buffers = allocate(model.network, slots, LONGEST_SEQUENCE)
    return Stages(
        Generator(model, buffers, for_codes, sizes, lag=lag),
        Decoder(model.codec, slots + SPARE_STATES, for_samples, sizes),
    )
