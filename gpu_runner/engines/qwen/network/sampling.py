"""Sampling of codes: each row of a batch with its own options and its own random numbers.

The library has one set of options and one stream of random numbers for a whole batch. Here a random number
samples from the distribution of its row, so the result of a seed does not depend on the other rows of the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.kernels import Kernels
from pipeline.contract.records import Options

FEW = 64  # candidates of the fast path; the published top_k is 50
SETTINGS = 7  # numbers of a row: see `Sampling.numbers`


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling options of a row, with the names and defaults of a model's `generation_config.json`.

    The talker samples the first code of a frame, the predictor ("subtalker") the others. A temperature of 0 is
    greedy. A top_k of 0 keeps all codes.
    """

    temperature: float = 0.9
    top_k: int = 50
    top_p: float = 1.0
    subtalker_temperature: float = 0.9
    subtalker_top_k: int = 50
    subtalker_top_p: float = 1.0
    repetition_penalty: float = 1.05

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a model's `generation_config.json`. Without sampling, the temperature is 0."""
        found = {name: config[name] for name in cls.__slots__ if name in config}
        if not config.get("do_sample", True):
            found["temperature"] = 0.0
        if not config.get("subtalker_dosample", True):
            found["subtalker_temperature"] = 0.0
        return cls(**found)

    def with_options(self, options: Options) -> Self:
        """Apply a request's options, which are the talker's, except that a temperature of 0 applies to both."""
        names = {"temperature", "top_k", "top_p", "repetition_penalty"}
        changes = options.model_dump(include=names, exclude_none=True)
        if options.temperature == 0:
            changes["subtalker_temperature"] = 0.0
        return replace(self, **changes)

    @property
    def is_random(self) -> bool:
        """Whether another seed gives other codes."""
        return self.temperature > 0 or self.subtalker_temperature > 0

    @property
    def few_are_enough(self) -> bool:
        """Whether the fast path, which considers the `FEW` likeliest codes, is exact."""
        talker = self.temperature == 0 or (0 < self.top_k <= FEW and self.top_p == 1)
        predictor = self.subtalker_temperature == 0 or (
            0 < self.subtalker_top_k <= FEW and self.subtalker_top_p == 1
        )
        return talker and predictor

    def numbers(self) -> list[float]:
        """Return the `SETTINGS` numbers: three of the talker, three of the predictor, and the penalty."""
        talker = self.temperature, self.top_k, self.top_p
        predictor = self.subtalker_temperature, self.subtalker_top_k, self.subtalker_top_p
        numbers = list[float]()
        for temperature, top_k, top_p in (talker, predictor):
            numbers += [1.0, 1.0, 1.0] if temperature == 0 else [1 / temperature, top_k or float("inf"), top_p]
        return [*numbers, self.repetition_penalty]


class Settings(NamedTuple):
    """The sampling options of B rows for one kind of code, on the device."""

    inverse_temperature: Tensor  # [B, 1]
    last_rank: Tensor  # [B, 1] int64: the rank of the last candidate that top_k keeps
    top_p: Tensor | None  # [B, 1]; None: no row uses it, and none has more than `FEW` candidates

    @classmethod
    def of_rows(cls, numbers: Tensor, codes: int, *, few: bool) -> Self:
        """Read [B, 3] numbers, see `Sampling.numbers`, for a choice among `codes` codes.

        With `few`, a row that has left its slot may have had a larger top_k. Its result is not used, but its rank
        must be among the candidates.
        """
        inverse_temperature, top_k, top_p = numbers.split(1, dim=1)
        candidates = min(FEW, codes) if few else codes
        return cls(inverse_temperature, top_k.clamp(max=candidates).long() - 1, None if few else top_p)


def choose(logits: Tensor, numbers: Tensor, settings: Settings, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """Choose a code for each row, from [B, V] float32 logits and [B, 1] float64 random numbers in [0, 1).

    Returns the codes, [B], and the largest logits, [B], which are finite unless the network failed. The number is
    looked up in the cumulative probabilities of the candidates, in the order of the codes: logits that differ by a
    rounding error then give the same code, unless the number is that close to a bound. In double precision a
    number below 1 stays below, and a code of probability 0 is never chosen.
    """
    few = settings.top_p is None
    best = logits.topk(min(FEW, logits.shape[1])).values if few else logits.sort(descending=True).values
    least = best.gather(1, settings.last_rank)
    if settings.top_p is not None:
        least = least.maximum(_least_of_nucleus(best, least, settings.top_p, settings.inverse_temperature))
    return kernels.draw(logits, least, settings.inverse_temperature, numbers), best[:, 0]


def _least_of_nucleus(ordered: Tensor, least: Tensor, top_p: Tensor, inverse_temperature: Tensor) -> Tensor:
    """Return the smallest logit, [B, 1], of the codes that make up `top_p` of the probability that top_k keeps."""
    kept = torch.where(ordered < least, -torch.inf, ordered * inverse_temperature)
    sums = kept.softmax(-1, dtype=torch.float64).cumsum(-1)
    count = (sums < top_p).sum(-1, keepdim=True)  # of those whose sum is below top_p
    return ordered.gather(1, count.clamp(max=ordered.shape[1] - 1))


def penalise(logits: Tensor, used: Tensor, penalty: Tensor) -> Tensor:
    """Apply the repetition penalty, [B, 1], to the codes that a row has used, bool [B, V]."""
    less = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(used, less, logits)
