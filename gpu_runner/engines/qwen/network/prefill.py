"""The prefill of new rows, several at once, and the initialization of their slots."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.graph_sizes import PREFILL_TOKENS, GraphSizes
from gpu_runner.engines.qwen.network.layers import PassMetadata
from gpu_runner.engines.qwen.network.network import Network
from gpu_runner.engines.qwen.network.slots import LONGEST, Slots


@dataclass(frozen=True, slots=True)
class PrefillRow:
    """A row to be admitted to a slot. Frames that it has generated before are part of its input."""

    slot: int
    embeds: Tensor  # [T, D] on the device: all input before the next frame
    feed: Tensor  # [N, D] on the device: see `Slots.text`
    settings: Sequence[float]  # see `sampling.Sampling.numbers`
    numbers: Tensor  # [up to LONGEST, G] float32 on the CPU: random numbers
    cap: int
    first_codes: Sequence[int] = ()  # of the frames generated before


class PrefillBuffers:
    """Static buffers for the input of a prefill of P rows of T tokens."""

    def __init__(self, network: Network, sizes: GraphSizes) -> None:
        tokens = max(PREFILL_TOKENS, sizes.prefill_lengths[-1])
        width, kv_heads = network.embeddings.shape[1], network.talker.shape.kv_heads
        self.tokens = torch.zeros(tokens, width, dtype=network.dtype, device=network.device)  # [P T, D]
        self.where = torch.zeros(tokens * 2 * kv_heads, dtype=torch.long, device=network.device)  # [P T 2K]


def prefill(network: Network, slots: Slots, buffers: PrefillBuffers, rows: int, length: int) -> None:
    """Write the keys and values of `rows` prompts of `length` tokens into the cache."""
    talker, count = network.talker, rows * length
    metadata = PassMetadata(
        batch=rows,
        length=0,
        cos=talker.cos[:length].repeat(rows, 1, 1),
        sin=talker.sin[:length].repeat(rows, 1, 1),
        where=buffers.where[: count * 2 * talker.shape.kv_heads],
        mask=None,
    )
    talker.run(buffers.tokens[:count], slots.layers.first(slots.count, 0), metadata, network.kernels)


def fill_buffers(
    buffers: PrefillBuffers, slots: Slots, rows: Sequence[PrefillRow], count: int, length: int
) -> None:
    """Copy prompts, without their last token, into `count` rows of `length` tokens. Padding repeats the first."""
    padded = [*rows, *[rows[0]] * (count - len(rows))]
    for number, row in enumerate(padded):
        tokens = buffers.tokens[number * length : (number + 1) * length]
        embeds = row.embeds[:-1]
        tokens[: len(embeds)] = embeds
        tokens[len(embeds) :] = 0
    index = to_device(torch.tensor([row.slot for row in padded]), slots.position.device)
    where = slots.rows_of_cache.index_select(0, index)[:, None] + slots.positions[:length, None]  # [P, T, 2K]
    buffers.where[: where.numel()] = where.view(-1)


def fill_slots(slots: Slots, rows: Sequence[PrefillRow], length: int) -> None:
    """Write the state of new rows into their slots, after a prefill of `length` tokens."""
    device = slots.position.device
    for row in rows:
        slots.clean(row.slot, length)
        slots.touched[row.slot] = max(length, len(row.embeds) + row.cap - len(row.first_codes))
        slots.token[row.slot] = row.embeds[-1]
        text = row.feed[:LONGEST]
        slots.text[row.slot, : len(text)] = text
        slots.numbers[row.slot, : len(row.numbers)] = to_device(row.numbers, device)
    index = to_device(torch.tensor([row.slot for row in rows]), device)
    counts = [(len(row.embeds) - 1, len(row.first_codes), row.cap, min(len(row.feed), LONGEST) - 1) for row in rows]
    columns = to_device(torch.tensor(counts).T.contiguous(), device)  # [4, N]
    for buffer, column in zip((slots.position, slots.frame, slots.cap, slots.last_text), columns, strict=True):
        buffer.index_copy_(0, index, column)
    used = torch.zeros(len(rows), slots.used.shape[1], dtype=torch.bool)
    for number, row in enumerate(rows):
        used[number, list(row.first_codes)] = True
    slots.used.index_copy_(0, index, to_device(used, device))
    settings = torch.tensor([list(row.settings) for row in rows], dtype=torch.float32)
    slots.settings.index_copy_(0, index, to_device(settings, device))
    slots.running.index_fill_(0, index, value=True)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy from the CPU without synchronizing the host with the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
