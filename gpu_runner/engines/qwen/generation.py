"""Frames of speech for many rows at once; rows board and leave between any two frames.

A row is one part of a text.  It is read in on its own (so that its start doesn't hang on its neighbours), then
joins the others: their caches are lined up at the right edge, with a mask over the empty left.  Every `advance` is
one frame of 80 ms for every row: the predictor fills in 15 codes, the talker chooses the first of the next frame,
and the host looks once to see who has ended.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import DynamicCache, DynamicLayer

from gpu_runner.engines.qwen import prefix
from gpu_runner.engines.qwen.model import Model
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.sampling import Chooser, Sampling

LEAST_FRAMES = 2  # as the published models were meant to: the first frame is never the last


class End(Enum):
    """Why a row left."""

    SPOKEN = "spoken"
    CAPPED = "capped"
    BROKEN = "broken"  # the network gave something that is no number


@dataclass(slots=True, eq=False)
class Row:
    """A part of an utterance on its way; `frames` grows to F lists of 16 codes."""

    job_id: str
    part: int
    text: str
    language: str
    prompt: QwenPrompt
    sampling: Sampling
    seed: int
    cap: int
    alone: bool = False  # may only fly with parts of its own job
    frames: list[list[int]] = field(default_factory=list)
    random: torch.Generator = field(default_factory=torch.Generator)

    def restart(self) -> None:
        """Forget what was spoken; with the same seed the same comes again."""
        self.frames = []
        # Drawn on the CPU, which gives the same numbers everywhere.
        self.random = torch.Generator().manual_seed(self.seed)

    def draw(self, count: int) -> Tensor:
        """Draw random numbers in [0, 1): [count] float32 on the CPU."""
        return torch.rand(count, generator=self.random)


@dataclass(frozen=True, slots=True)
class Landed:
    """A row that has ended."""

    row: Row
    end: End


@dataclass(slots=True)
class _State:
    """What is known of N rows after L columns of cache; everything is on the device."""

    cache: DynamicCache  # keys and values of each layer: [N, heads, L, head_dim]
    mask: Tensor  # [N, L] bool: which columns are the row's
    hidden: Tensor  # [N, 1, D]: the talker's last output
    code: Tensor  # [N]: the first code of the frame to come
    step: Tensor  # [N]: frames done
    feed: Tensor  # [N, S, D]: text still to be read, see Prefix
    seen: Tensor  # [N, V] bool: first codes that were used
    sound: Tensor  # [N] bool: all was finite so far


class Flight:
    """The rows that are being spoken."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._state: _State | None = None
        self._chooser: Chooser | None = None
        self.rows: list[Row] = []

    def board(self, row: Row) -> None:
        """Read a row in and let it join; when that fails, the others fly on."""
        state = self._read_in(row)
        self._seat([*self.rows, row], state if self._state is None else _merged([self._state, state]))

    def leave(self, job_id: str) -> None:
        """Drop the rows of a job."""
        self._keep([row.job_id != job_id for row in self.rows])

    def clear(self) -> list[Row]:
        """Drop all rows, and give them back."""
        rows = self.rows
        self._seat([], None)
        return rows

    def advance(self) -> list[Landed]:
        """Speak one frame of every row; give those that ended with it."""
        state, chooser = self._seated()
        numbers = torch.stack([row.draw(self._model.groups) for row in self.rows]).to(self._model.device)
        codes = self._predict(state, chooser, numbers[:, :-1])  # [N, 16]
        hidden = self._talk(state, codes)
        state.step += 1
        self._choose(state, chooser, hidden, numbers[:, -1])
        told = torch.cat([codes, state.code[:, None], state.sound[:, None].long()], dim=1).tolist()
        landed = [self._arrived(row, *line) for row, line in zip(self.rows, told, strict=True)]
        self._keep([one is None for one in landed])
        return [one for one in landed if one is not None]

    def _arrived(self, row: Row, *line: int) -> Landed | None:
        *codes, following, sound = line
        row.frames.append(codes)
        if not sound:
            return Landed(row, End.BROKEN)
        if following == self._model.end:
            return Landed(row, End.SPOKEN)
        return Landed(row, End.CAPPED) if len(row.frames) >= row.cap else None

    def _read_in(self, row: Row) -> _State:
        row.restart()
        model = self._model
        start = prefix.build(model, row.text, row.language, row.prompt)
        length = len(start.embeds)
        cache = DynamicCache()
        output = model.talker.model(
            inputs_embeds=start.embeds[None],
            position_ids=torch.arange(length, device=model.device).expand(3, 1, -1),
            past_key_values=cache,
            use_cache=True,
        )
        state = _State(
            cache=cache,
            mask=torch.ones(1, length, dtype=torch.bool, device=model.device),
            hidden=output.last_hidden_state[:, -1:],
            code=torch.zeros(1, dtype=torch.long, device=model.device),
            step=torch.zeros(1, dtype=torch.long, device=model.device),
            feed=start.feed[None],
            seen=torch.zeros(1, model.config.vocab_size, dtype=torch.bool, device=model.device),
            sound=torch.ones(1, dtype=torch.bool, device=model.device),
        )
        self._choose(state, Chooser([row.sampling], model.device), state.hidden, row.draw(1).to(model.device))
        return state

    def _predict(self, state: _State, chooser: Chooser, numbers: Tensor) -> Tensor:
        """Fill in the other 15 codes of a frame: [N, 16]."""
        predictor = self._model.talker.code_predictor
        embeddings = predictor.get_input_embeddings()
        cache = DynamicCache()
        codes = [state.code]
        embeds = torch.cat([state.hidden, self._model.talker.get_input_embeddings()(state.code)[:, None]], dim=1)
        for group, head in enumerate(predictor.lm_head):
            output = predictor.model(
                inputs_embeds=predictor.small_to_mtp_projection(embeds), past_key_values=cache, use_cache=True
            )
            logits = head(output.last_hidden_state[:, -1]).float()  # [N, codebook]
            state.sound &= logits.isfinite().all(-1)
            codes.append(chooser.choose(logits, numbers[:, group]))
            embeds = embeddings[group](codes[-1])[:, None]
        return torch.stack(codes, dim=1)

    def _talk(self, state: _State, codes: Tensor) -> Tensor:
        """Let the talker hear the frame and read on in the text: [N, 1, D]."""
        model = self._model
        text = state.step.clamp(max=state.feed.shape[1] - 1)  # [N]
        embeds = model.embed_frames(codes) + state.feed[torch.arange(len(text), device=model.device), text]
        positions = state.mask.sum(-1)  # [N]: a row's own length, whatever is left of it
        state.mask = functional.pad(state.mask, (0, 1), value=True)
        output = model.talker.model(
            inputs_embeds=embeds[:, None],
            attention_mask=state.mask[:, None, None, :],  # ready to use: the library would have to look at it first
            position_ids=positions.view(1, -1, 1).expand(3, -1, -1),
            past_key_values=state.cache,
            use_cache=True,
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _choose(self, state: _State, chooser: Chooser, hidden: Tensor, numbers: Tensor) -> None:
        """Choose the first code of the next frame, or the end."""
        model = self._model
        logits = model.talker.codec_head(hidden[:, -1]).float()  # [N, V]
        state.sound &= logits.isfinite().all(-1)
        logits = chooser.penalise(logits, state.seen).masked_fill(model.never, -torch.inf)
        logits[:, model.end] = logits[:, model.end].masked_fill(state.step < LEAST_FRAMES, -torch.inf)
        state.code = chooser.choose(logits, numbers)
        state.seen = state.seen.scatter(1, state.code[:, None], value=True)
        state.hidden = hidden

    def _keep(self, which: list[bool]) -> None:
        if self._state is None or all(which):
            return
        rows = [row for row, stays in zip(self.rows, which, strict=True) if stays]
        self._seat(rows, _selected(self._state, which) if rows else None)

    def _seat(self, rows: list[Row], state: _State | None) -> None:
        self.rows = rows
        self._state = state
        self._chooser = Chooser([row.sampling for row in rows], self._model.device) if rows else None

    def _seated(self) -> tuple[_State, Chooser]:
        if self._state is None or self._chooser is None:
            raise ValueError("nobody is on board")
        return self._state, self._chooser


def _merged(states: Sequence[_State]) -> _State:
    """Put rows of different lengths into one batch, lined up at the right."""
    columns = max(state.mask.shape[1] for state in states)
    texts = max(state.feed.shape[1] for state in states)

    def together(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([_pad_left(one, 2, columns) for one in tensors])

    def rows(which: str) -> Tensor:
        return torch.cat([getattr(state, which) for state in states])

    return _State(
        cache=_cache_of(
            (together([layer.keys for layer in same]), together([layer.values for layer in same]))
            for same in zip(*map(_layers, states), strict=True)
        ),
        mask=torch.cat([_pad_left(state.mask, 1, columns) for state in states]),
        feed=torch.cat([_repeat_last(state.feed, texts) for state in states]),
        **{name: rows(name) for name in ("hidden", "code", "step", "seen", "sound")},
    )


def _selected(state: _State, which: list[bool]) -> _State:
    """Keep some of the rows, and of the columns those that any of them uses."""
    index = torch.tensor([number for number, stays in enumerate(which) if stays], device=state.mask.device)
    mask = state.mask[index]
    first = int(mask.any(0).long().argmax())
    return _State(
        cache=_cache_of((layer.keys[index, :, first:], layer.values[index, :, first:]) for layer in _layers(state)),
        mask=mask[:, first:],
        **{name: getattr(state, name)[index] for name in ("hidden", "code", "step", "feed", "seen", "sound")},
    )


def _layers(state: _State) -> list[Any]:
    return state.cache.layers


def _cache_of(layers: Iterable[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Make a cache of keys and values as they are; its own constructor would copy them."""
    cache = DynamicCache()
    for keys, values in layers:
        layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def _pad_left(tensor: Tensor, dimension: int, size: int) -> Tensor:
    after = tensor.dim() - 1 - dimension
    missing = size - tensor.shape[dimension]
    padding: list[Any] = [0, 0] * after + [missing, 0]
    return functional.pad(tensor, padding)


def _repeat_last(feed: Tensor, size: int) -> Tensor:
    """Let the row of "no more text" stand as often as is needed: [1, S, D] becomes [1, size, D]."""
    return torch.cat([feed, feed[:, -1:].expand(-1, size - feed.shape[1], -1)], dim=1)
