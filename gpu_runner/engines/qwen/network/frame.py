"""One frame of 80 ms for the first B slots: a function of tensors only, without host synchronization.

The talker reads a token, and the first code of the frame is sampled. The predictor samples the other 15 codes. The
sum of the embeddings of all codes and of the next token of text is the next input of the talker.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gpu_runner.engines.qwen.network.layers import PassMetadata
from gpu_runner.engines.qwen.network.network import LEAST_FRAMES, Network
from gpu_runner.engines.qwen.network.sampling import Settings, choose, penalise
from gpu_runner.engines.qwen.network.slots import Slots


class Status:
    """The result of a slot's frame, the first number of its report. Plain ints, since torch compiles no enums."""

    IDLE = 0  # the slot is free, or its row has ended
    RUNNING = 1
    STOPPED = 2  # the model ended the row before this frame
    LENGTH_CAPPED = 3  # the frame is the last that the row may have
    NOT_FINITE = 4  # the network returned NaN or infinity


class FrameSize(NamedTuple):
    """The size of a frame: the first `batch` slots, and `length` positions of their caches.

    With `few`, every running row samples from the `FEW` most likely candidates, without top_p.
    """

    batch: int
    length: int
    few: bool


def make_frame(network: Network, slots: Slots, size: FrameSize) -> None:
    """Generate a frame for the first slots. Its results are in `slots.report`."""
    batch = size.batch
    frame, running = slots.frame[:batch], slots.running[:batch]
    numbers = functional.embedding(slots.rows_of_frames[:batch] + frame, slots.numbers.flatten(0, 1)).double()
    hidden = _talk(network, slots, size)
    first, best = _choose_first(network, slots, size, hidden, numbers[:, :1])
    codes, best_of_others = _predict(network, slots, size, hidden, first, numbers)
    finite = torch.stack([best, *best_of_others]).isfinite().all(0)  # [B]
    status = _status(running, finite, first == network.end, frame + 1 >= slots.cap[:batch])
    slots.report[:batch] = torch.cat([status[:, None], codes], dim=1)
    _advance(network, slots, codes, status == Status.RUNNING)


def _talk(network: Network, slots: Slots, size: FrameSize) -> Tensor:
    """Run the talker on the next token: [B, D]."""
    position, talker = slots.position[: size.batch], network.talker
    unseen = slots.positions[: size.length] > position[:, None]  # [B, L]
    mask = torch.zeros_like(unseen, dtype=network.dtype).masked_fill(unseen, -torch.inf)
    metadata = PassMetadata(
        batch=size.batch,
        length=size.length,
        cos=talker.cos.index_select(0, position),
        sin=talker.sin.index_select(0, position),
        where=(slots.rows_of_cache[: size.batch] + position[:, None]).view(-1),
        mask=mask[:, None, None].expand(-1, -1, talker.shape.group, -1),
    )
    caches = slots.layers.first(size.batch, size.length)
    return talker.run(slots.token[: size.batch], caches, metadata, network.kernels)


def _choose_first(
    network: Network, slots: Slots, size: FrameSize, hidden: Tensor, numbers: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample the first code of the frame, or the end token: see `choose`."""
    settings, used = slots.settings[: size.batch], slots.used[: size.batch]
    logits = functional.linear(hidden, network.head).float()  # [B, V]
    may_end = (slots.frame[: size.batch] >= LEAST_FRAMES).long()
    logits = penalise(logits, used, settings[:, 6:]) + network.forbidden.index_select(0, may_end)
    code, best = choose(
        logits, numbers, Settings.of_rows(settings[:, :3], logits.shape[1], few=size.few), network.kernels
    )
    used.scatter_(1, code[:, None], value=True)
    return code, best


def _predict(
    network: Network, slots: Slots, size: FrameSize, hidden: Tensor, first: Tensor, numbers: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Predict the other codes of the frame: all codes, [B, G], and the largest logit of each choice, [B] each."""
    batch, count = size.batch, len(network.predictor_heads[0])
    settings = Settings.of_rows(slots.settings[:batch, 3:6], count, few=size.few)
    codes, best = [first], []
    first_token = functional.embedding(first, network.predictor_inputs[0])
    tokens = torch.stack([network.project(hidden), first_token], dim=1).flatten(0, 1)  # [2 B, P]
    for group, head in enumerate(network.predictor_heads, start=1):
        metadata = _pass(network, slots, batch, group)
        caches = slots.predictor_layers.first(batch, metadata.length)
        outputs = network.predictor.run(tokens, caches, metadata, network.kernels)
        last = outputs[1::2] if group == 1 else outputs  # [B, P]
        logits = functional.linear(last, head).float()  # [B, C]
        chosen = choose(logits, numbers[:, group : group + 1], settings, network.kernels)
        codes.append(chosen[0])
        best.append(chosen[1])
        tokens = functional.embedding(codes[-1], network.predictor_inputs[group])
    return torch.stack(codes, dim=1), best


def _pass(network: Network, slots: Slots, batch: int, group: int) -> PassMetadata:
    """Describe a pass of the predictor, at the same position in all rows.

    The first one reads two tokens a row: the talker's output, and the first code.
    """
    predictor = network.predictor
    if group == 1:
        cos, sin = (part[:2].repeat(batch, 1, 1) for part in (predictor.cos, predictor.sin))
        where = slots.pairs_of_predictor_cache[:batch].view(-1)
        return PassMetadata(batch, 2, cos, sin, where, network.mask_of_two)
    cos, sin = (part[group : group + 1] for part in (predictor.cos, predictor.sin))
    where = slots.rows_of_predictor_cache[group, :batch].view(-1)
    return PassMetadata(batch, group + 1, cos, sin, where, mask=None)


def _status(running: Tensor, finite: Tensor, stopped: Tensor, last: Tensor) -> Tensor:
    """Return the status of the frame, [B], in the order of precedence."""
    status = last.long() * (Status.LENGTH_CAPPED - Status.RUNNING) + Status.RUNNING
    status = status.masked_fill(stopped, Status.STOPPED).masked_fill(~finite, Status.NOT_FINITE)
    return status * running


def _advance(network: Network, slots: Slots, codes: Tensor, continues: Tensor) -> None:
    batch = len(codes)
    text = slots.frame[:batch].minimum(slots.last_text[:batch]) + slots.rows_of_frames[:batch]
    words = functional.embedding(text, slots.text.flatten(0, 1))
    slots.token[:batch] = network.embed_frames(codes) + words
    slots.position[:batch] += continues
    slots.frame[:batch] += continues
    slots.running[:batch] &= continues
