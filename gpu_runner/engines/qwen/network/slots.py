"""The state of the rows in flight, on the device, in static buffers.

A row takes a slot at its admission and leaves it at its end. The frame processes the first B slots, used or not:
its results for a slot without a row are ignored.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.layers import Caches
from gpu_runner.engines.qwen.network.network import Network
from gpu_runner.engines.qwen.network.sampling import SETTINGS

LONGEST = 800  # frames of a row, 64 s: three times the estimated duration of the longest part, plus 4 s


@dataclass(frozen=True, slots=True)
class Slots:
    """Buffers for S rows of up to L positions."""

    cache: Tensor  # [layers, 2, S, K, L, d]: keys and values, left-aligned
    layers: Caches  # of it
    predictor_cache: Tensor  # [layers, 2, S, K, G, d]: of the current frame
    predictor_layers: Caches
    token: Tensor  # [S, D]: the talker's next input
    position: Tensor  # [S]: its position in the cache
    frame: Tensor  # [S]: frames generated
    cap: Tensor  # [S]: maximum number of frames
    running: Tensor  # [S] bool: whether frames are being generated
    used: Tensor  # [S, V] bool: first codes that were chosen
    settings: Tensor  # [S, 7] float32, see `sampling.Settings`
    numbers: Tensor  # [S, LONGEST, G] float32: the random numbers of each frame
    text: Tensor  # [S, LONGEST, D]: added to each frame that is fed back
    last_text: Tensor  # [S]: which of them is used for every later frame
    report: Tensor  # [S, 1 + G]: the status of the latest frame, see `frame.Status`, and its codes
    # Constant indices into flattened buffers:
    positions: Tensor  # [L]: 0, 1, 2 …
    rows_of_cache: Tensor  # [S, 2K]: the first position of each slot's keys and values, in the cache of a layer
    rows_of_predictor_cache: Tensor  # [G, S, 2K]: each position of them
    pairs_of_predictor_cache: Tensor  # [S, 2, 2K]: the first two positions of them
    rows_of_frames: Tensor  # [S]: the first frame of each slot, in `numbers` and `text`

    touched: list[int]  # on the host: how many positions of each slot may be nonzero

    @property
    def count(self) -> int:
        """S."""
        return len(self.position)

    def clean(self, slot: int, start: int) -> None:
        """Zero the data of an earlier row in a slot's caches, from a position on.

        It is masked out, but a NaN would propagate through the mask.
        """
        self.cache[:, :, slot, :, start : self.touched[slot]] = 0
        self.predictor_cache[:, :, slot] = 0


def allocate(network: Network, count: int, length: int, device: torch.device | None = None) -> Slots:
    """Allocate slots for `count` rows of up to `length` positions, on the network's device by default."""
    place = device or network.device

    def buffer(*shape: int, dtype: torch.dtype = network.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=place)

    talker, predictor = network.talker, network.predictor
    groups, width = network.groups, network.embeddings.shape[1]
    predictor_rows = _rows(count, predictor.shape.kv_heads, groups, place)
    cache = buffer(len(talker.layers), 2, count, talker.shape.kv_heads, length, talker.shape.head_dim)
    predictor_cache = buffer(
        len(predictor.layers), 2, count, predictor.shape.kv_heads, groups, predictor.shape.head_dim
    )
    return Slots(
        cache=cache,
        layers=Caches(cache),
        predictor_cache=predictor_cache,
        predictor_layers=Caches(predictor_cache),
        token=buffer(count, width),
        position=buffer(count, dtype=torch.long),
        frame=buffer(count, dtype=torch.long),
        cap=buffer(count, dtype=torch.long),
        running=buffer(count, dtype=torch.bool),
        used=buffer(count, len(network.head), dtype=torch.bool),
        settings=buffer(count, SETTINGS, dtype=torch.float32).fill_(1.0),
        numbers=buffer(count, LONGEST, groups, dtype=torch.float32),
        text=buffer(count, LONGEST, width),
        last_text=buffer(count, dtype=torch.long),
        report=buffer(count, 1 + groups, dtype=torch.long),
        positions=torch.arange(length, device=place),
        rows_of_cache=_rows(count, talker.shape.kv_heads, length, place),
        rows_of_predictor_cache=torch.stack([predictor_rows + position for position in range(groups)]),
        pairs_of_predictor_cache=torch.stack([predictor_rows, predictor_rows + 1], dim=1),
        rows_of_frames=torch.arange(count, device=place) * LONGEST,
        touched=[0] * count,
    )


def bytes_per_slot(network: Network, length: int) -> int:
    """Return the memory that a slot of `length` positions takes."""
    slots = allocate(network, 1, length, torch.device("meta"))
    buffers = [getattr(slots, field.name) for field in fields(slots)]
    return sum(buffer.nbytes for buffer in buffers if isinstance(buffer, Tensor))


def _rows(count: int, kv_heads: int, length: int, device: torch.device) -> Tensor:
    """Return the index of the first position of each row in a layer's cache, [2, S, K, L]: [S, 2K]."""
    rows = torch.arange(2 * count * kv_heads, device=device).view(2, count, kv_heads) * length
    return rows.transpose(0, 1).flatten(1)
