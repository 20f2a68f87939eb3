"""The prefill of new rows, several at once, and the initialization of their slots."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.buckets import PREFILL_TOKENS, Buckets
from gpu_runner.engines.qwen.network.layers import Pass
from gpu_runner.engines.qwen.network.network import Network
from gpu_runner.engines.qwen.network.slots import LONGEST, Slots


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A row to be placed in a slot.  Frames that it has generated before are part of its input."""

    slot: int
    reads: Tensor  # [T, D] on the device: all input before the next frame
    text: Tensor  # [N, D] on the device: see `Slots.text`
    settings: Sequence[float]  # see `sampling.Sampling.numbers`
    numbers: Tensor  # [up to LONGEST, G] float32 on the CPU
    cap: int
    first_codes: Sequence[int] = ()  # of the frames generated before


class Inputs:
    """Inputs of a prefill of P rows of T tokens, in static buffers."""

    def __init__(self, network: Network, buckets: Buckets) -> None:
        tokens = max(PREFILL_TOKENS, buckets.prefill_lengths[-1])
        width, kv_heads = network.embeddings.shape[1], network.talker.shape.kv_heads
        self.tokens = torch.zeros(tokens, width, dtype=network.dtype, device=network.device)  # [P T, D]
        self.where = torch.zeros(tokens * 2 * kv_heads, dtype=torch.long, device=network.device)  # [P T 2K]


def prefill(network: Network, slots: Slots, inputs: Inputs, rows: int, length: int) -> None:
    """Write the keys and values of `rows` prompts of `length` tokens into the cache."""
    talker, count = network.talker, rows * length
    what = Pass(
        batch=rows,
        length=0,
        cos=talker.cos[:length].repeat(rows, 1, 1),
        sin=talker.sin[:length].repeat(rows, 1, 1),
        where=inputs.where[: count * 2 * talker.shape.kv_heads],
        mask=None,
    )
    talker.run(inputs.tokens[:count], slots.layers.first(slots.count, 0), what, network.kernels)


def fill(inputs: Inputs, slots: Slots, newcomers: Sequence[Newcomer], rows: int, length: int) -> None:
    """Copy prompts, without their last token, into `rows` of `length` tokens; padding rows repeat the first."""
    padded = [*newcomers, *[newcomers[0]] * (rows - len(newcomers))]
    for number, newcomer in enumerate(padded):
        tokens = inputs.tokens[number * length : (number + 1) * length]
        read = newcomer.reads[:-1]
        tokens[: len(read)] = read
        tokens[len(read) :] = 0
    index = to_device(torch.tensor([newcomer.slot for newcomer in padded]), slots.position.device)
    where = slots.rows_of_cache.index_select(0, index)[:, None] + slots.positions[:length, None]  # [P, T, 2K]
    inputs.where[: where.numel()] = where.view(-1)


def seat(slots: Slots, newcomers: Sequence[Newcomer], length: int) -> None:
    """Write the state of newcomers into their slots, after a prefill of `length` tokens."""
    for newcomer in newcomers:
        slots.clean(newcomer.slot, length)
        slots.touched[newcomer.slot] = max(length, len(newcomer.reads) + newcomer.cap - len(newcomer.first_codes))
        slots.token[newcomer.slot] = newcomer.reads[-1]
        text = newcomer.text[:LONGEST]
        slots.text[newcomer.slot, : len(text)] = text
        slots.numbers[newcomer.slot, : len(newcomer.numbers)] = to_device(newcomer.numbers, slots.numbers.device)
    _seat_numbers(slots, newcomers)


def _seat_numbers(slots: Slots, newcomers: Sequence[Newcomer]) -> None:
    device = slots.position.device
    index = to_device(torch.tensor([newcomer.slot for newcomer in newcomers]), device)
    counts = [
        (len(one.reads) - 1, len(one.first_codes), one.cap, min(len(one.text), LONGEST) - 1) for one in newcomers
    ]
    columns = to_device(torch.tensor(counts).T.contiguous(), device)  # [4, N]
    for buffer, column in zip((slots.position, slots.frame, slots.cap, slots.last_text), columns, strict=True):
        buffer.index_copy_(0, index, column)
    used = torch.zeros(len(newcomers), slots.used.shape[1], dtype=torch.bool)
    for number, newcomer in enumerate(newcomers):
        used[number, list(newcomer.first_codes)] = True
    slots.used.index_copy_(0, index, to_device(used, device))
    settings = torch.tensor([list(newcomer.settings) for newcomer in newcomers], dtype=torch.float32)
    slots.settings.index_copy_(0, index, to_device(settings, device))
    slots.running.index_fill_(0, index, value=True)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy from the CPU without synchronizing the host with the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
