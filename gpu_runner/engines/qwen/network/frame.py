"""One frame of 80 ms for the first B slots: a function of tensors alone, without host synchronisation.

The talker reads a token and the frame's first code is chosen; the predictor fills in the other 15; the sum of their
embeddings and the next token of text is what the talker reads next.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gpu_runner.engines.qwen.network.layers import Pass
from gpu_runner.engines.qwen.network.network import LEAST_FRAMES, Network
from gpu_runner.engines.qwen.network.sampling import Settings, choose, penalise
from gpu_runner.engines.qwen.network.slots import Slots


class Status:
    """The result of a slot's frame, the first number of its report; plain ints, since torch compiles no enums."""

    IDLE = 0  # the slot is free, or its row has ended
    SPOKEN = 1
    ENDED = 2  # there is no such frame: the row ended before it
    CAPPED = 3  # generated, and the last that the row may have
    BROKEN = 4  # the network returned NaN or infinity


class Bucket(NamedTuple):
    """The shape of a frame: its first `batch` slots, `length` positions of their caches.

    With `few`, every row samples from the `FEW` most likely candidates, without top_p.
    """

    batch: int
    length: int
    few: bool


def make_frame(network: Network, slots: Slots, bucket: Bucket) -> None:
    """Generate a frame for the slots of a bucket; its results are in `slots.report`."""
    batch = bucket.batch
    frame, running = slots.frame[:batch], slots.running[:batch]
    numbers = functional.embedding(slots.rows_of_frames[:batch] + frame, slots.numbers.flatten(0, 1)).double()
    hidden = _talk(network, slots, bucket)
    first, best = _choose_first(network, slots, bucket, hidden, numbers[:, :1])
    codes, best_of_others = _predict(network, slots, bucket, hidden, first, numbers)
    sound = torch.stack([best, *best_of_others]).isfinite().all(0)  # [B]
    status = _status(running, sound, first == network.end, frame + 1 >= slots.cap[:batch])
    slots.report[:batch] = torch.cat([status[:, None], codes], dim=1)
    _advance(network, slots, codes, status == Status.SPOKEN)


def _talk(network: Network, slots: Slots, bucket: Bucket) -> Tensor:
    """Run the talker on the next token: [B, D]."""
    position, talker = slots.position[: bucket.batch], network.talker
    unseen = slots.positions[: bucket.length] > position[:, None]  # [B, L]
    mask = torch.zeros_like(unseen, dtype=network.dtype).masked_fill(unseen, -torch.inf)
    what = Pass(
        batch=bucket.batch,
        length=bucket.length,
        cos=talker.cos.index_select(0, position),
        sin=talker.sin.index_select(0, position),
        where=(slots.rows_of_cache[: bucket.batch] + position[:, None]).view(-1),
        mask=mask[:, None, None].expand(-1, -1, talker.shape.group, -1),
    )
    caches = slots.layers.first(bucket.batch, bucket.length)
    return talker.run(slots.token[: bucket.batch], caches, what, network.kernels)


def _choose_first(
    network: Network, slots: Slots, bucket: Bucket, hidden: Tensor, numbers: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample the first code of the frame, or the end token: see `choose`."""
    settings, used = slots.settings[: bucket.batch], slots.used[: bucket.batch]
    logits = functional.linear(hidden, network.head).float()  # [B, V]
    may_end = (slots.frame[: bucket.batch] >= LEAST_FRAMES).long()
    logits = penalise(logits, used, settings[:, 6:]) + network.forbidden.index_select(0, may_end)
    code, best = choose(
        logits, numbers, Settings.of_rows(settings[:, :3], logits.shape[1], few=bucket.few), network.kernels
    )
    used.scatter_(1, code[:, None], value=True)
    return code, best


def _predict(
    network: Network, slots: Slots, bucket: Bucket, hidden: Tensor, first: Tensor, numbers: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Predict the other codes of the frame: all codes, [B, G], and the largest logit of each choice, [B] each."""
    batch, size = bucket.batch, len(network.predictor_heads[0])
    settings = Settings.of_rows(slots.settings[:batch, 3:6], size, few=bucket.few)
    codes, best = [first], []
    first_token = functional.embedding(first, network.predictor_inputs[0])
    tokens = torch.stack([network.project(hidden), first_token], dim=1).flatten(0, 1)  # [2 B, P]
    for group, head in enumerate(network.predictor_heads, start=1):
        what = _first_pass(network, slots, batch) if group == 1 else _pass(network, slots, batch, group)
        caches = slots.predictor_layers.first(batch, what.length)
        outputs = network.predictor.run(tokens, caches, what, network.kernels)
        last = outputs[1::2] if group == 1 else outputs  # [B, P]
        logits = functional.linear(last, head).float()  # [B, C]
        chosen = choose(logits, numbers[:, group : group + 1], settings, network.kernels)
        codes.append(chosen[0])
        best.append(chosen[1])
        tokens = functional.embedding(codes[-1], network.predictor_inputs[group])
    return torch.stack(codes, dim=1), best


def _first_pass(network: Network, slots: Slots, batch: int) -> Pass:
    """Describe the predictor's pass over two tokens a row: the talker's output, and the first code."""
    predictor = network.predictor
    return Pass(
        batch=batch,
        length=2,
        cos=predictor.cos[:2].repeat(batch, 1, 1),
        sin=predictor.sin[:2].repeat(batch, 1, 1),
        where=slots.pairs_of_predictor_cache[:batch].view(-1),
        mask=network.mask_of_two,
    )


def _pass(network: Network, slots: Slots, batch: int, position: int) -> Pass:
    """Describe the predictor's pass over the token at a position, the same one in all rows."""
    return Pass(
        batch=batch,
        length=position + 1,
        cos=network.predictor.cos[position : position + 1],
        sin=network.predictor.sin[position : position + 1],
        where=slots.rows_of_predictor_cache[position, :batch].view(-1),
        mask=None,
    )


def _status(running: Tensor, sound: Tensor, ended: Tensor, last: Tensor) -> Tensor:
    """Return the status of the frame, [B], in the order of precedence."""
    status = last.long() * (Status.CAPPED - Status.SPOKEN) + Status.SPOKEN
    status = status.masked_fill(ended, Status.ENDED).masked_fill(~sound, Status.BROKEN)
    return status * running


def _advance(network: Network, slots: Slots, codes: Tensor, goes_on: Tensor) -> None:
    batch = len(codes)
    text = slots.frame[:batch].minimum(slots.last_text[:batch]) + slots.rows_of_frames[:batch]
    beside = functional.embedding(text, slots.text.flatten(0, 1))
    slots.token[:batch] = network.embed_frames(codes) + beside
    slots.position[:batch] += goes_on
    slots.frame[:batch] += goes_on
    slots.running[:batch] &= goes_on
