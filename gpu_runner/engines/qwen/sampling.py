"""Choosing codes, each row of a batch in its own way and with its own randomness.

The library has one set of options and one stream of random numbers for a whole batch.  Here a row draws its numbers
from its own generator, and a number picks from the row's distribution alone, so what a seed gives does not hang on
who else is in the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.contract.records import Options


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one row chooses.  A temperature of 0 takes the likeliest; a top_k of 0 leaves all to choose among."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the defaults of a model's `generation_config.json`."""
        return cls(
            temperature=float(config.get("temperature", 0.9)),
            top_k=int(config.get("top_k", 50)),
            top_p=float(config.get("top_p", 1.0)),
            repetition_penalty=float(config.get("repetition_penalty", 1.05)),
        )

    def with_options(self, options: Options) -> Self:
        """Take over what a request asks for."""
        asked = options.model_dump(include={field.name for field in fields(self)}, exclude_none=True)
        return replace(self, **asked)


class Chooser:
    """The sampling of all rows of a batch, as tensors of shape [N, 1] on its device."""

    def __init__(self, rows: Sequence[Sampling], device: torch.device) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]  # [N, 1]

        greedy = [row.temperature == 0 for row in rows]
        self._all_greedy, self._any_greedy = all(greedy), any(greedy)
        self._greedy = torch.tensor(greedy, device=device)  # [N]
        self._temperature = column([row.temperature or 1.0 for row in rows])
        self._top_ks = [row.top_k for row in rows]
        self._top_p = column([row.top_p for row in rows])
        self._any_top_p = any(row.top_p < 1 for row in rows)
        self._penalty = column([row.repetition_penalty for row in rows])

    def penalise(self, logits: Tensor, seen: Tensor) -> Tensor:
        """Make codes that a row has used less likely; both are [N, V], `seen` is bool."""
        less = torch.where(logits < 0, logits * self._penalty, logits / self._penalty)
        return torch.where(seen, less, logits)

    def choose(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """Choose a code for each row: [N, V] logits in float32 and [N] random numbers in [0, 1) give [N] codes."""
        likeliest = logits.argmax(-1)
        if self._all_greedy:
            return likeliest
        drawn = _draw(self._filtered(logits / self._temperature), numbers)
        return torch.where(self._greedy, likeliest, drawn) if self._any_greedy else drawn

    def _filtered(self, logits: Tensor) -> Tensor:
        size = logits.shape[-1]
        limits = [min(top_k, size) or size for top_k in self._top_ks]
        if min(limits) < size:
            best = logits.topk(max(limits)).values  # [N, K], descending
            last = torch.tensor(limits, device=logits.device)[:, None] - 1
            logits = logits.masked_fill(logits < best.gather(1, last), -torch.inf)
        return _nucleus(logits, self._top_p) if self._any_top_p else logits


def _nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """Keep the likeliest codes that together make up `top_p`, and at least one."""
    ordered, order = logits.sort(descending=True)
    chances = ordered.softmax(-1)
    beyond = chances.cumsum(-1) - chances >= top_p  # what comes before it is enough already
    beyond[:, 0] = False
    return logits.masked_fill(beyond.scatter(1, order, beyond), -torch.inf)


def _draw(logits: Tensor, numbers: Tensor) -> Tensor:
    """Find the code at which the running sum of chances passes the number.

    In double precision: there a number below 1 stays below, and a code without a chance is never found.
    """
    sums = logits.softmax(-1).double().cumsum(-1)  # [N, V]
    goal = numbers.double()[:, None] * sums[:, -1:]
    return (sums <= goal).sum(-1).clamp(max=logits.shape[-1] - 1)
