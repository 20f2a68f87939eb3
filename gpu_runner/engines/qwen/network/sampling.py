"""Sampling of codes: each row of a batch with its own options and its own random numbers.

The library has one set of options and one stream of random numbers for a whole batch.  Here a number samples
from the row's distribution alone, so the result of a seed does not depend on the other rows of the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.kernels import Kernels
from pipeline.contract.records import Options

FEW = 64  # candidates that the fast path considers; the published top_k is 50


@dataclass(frozen=True, slots=True)
class Choice:
    """The sampling options of one kind of code.  A temperature of 0 is greedy; a top_k of 0 keeps all."""

    temperature: float
    top_k: int
    top_p: float

    @classmethod
    def of_config(cls, config: Mapping[str, Any], prefix: str, do_sample: str) -> Self:
        """Read a model's `generation_config.json`; without sampling the temperature is 0."""
        sampled = bool(config.get(do_sample, True))
        return cls(
            temperature=float(config.get(f"{prefix}temperature", 0.9)) if sampled else 0.0,
            top_k=int(config.get(f"{prefix}top_k", 50)),
            top_p=float(config.get(f"{prefix}top_p", 1.0)),
        )

    @property
    def few_are_enough(self) -> bool:
        """Whether no more than `FEW` candidates can be chosen."""
        return self.temperature == 0 or (0 < self.top_k <= FEW and self.top_p == 1)


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling options of a row: the talker's for a frame's first code, the "subtalker's" for the others."""

    talker: Choice
    predictor: Choice
    repetition_penalty: float

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the defaults of a model's `generation_config.json`."""
        return cls(
            talker=Choice.of_config(config, "", "do_sample"),
            predictor=Choice.of_config(config, "subtalker_", "subtalker_dosample"),
            repetition_penalty=float(config.get("repetition_penalty", 1.05)),
        )

    def with_options(self, options: Options) -> Self:
        """Apply a request's options: they are the talker's, but a temperature of 0 applies to both."""
        asked = options.model_dump(include={"temperature", "top_k", "top_p"}, exclude_none=True)
        predictor = replace(self.predictor, temperature=0.0) if options.temperature == 0 else self.predictor
        penalty = options.repetition_penalty
        return replace(
            self,
            talker=replace(self.talker, **asked),
            predictor=predictor,
            repetition_penalty=self.repetition_penalty if penalty is None else penalty,
        )

    @property
    def few_are_enough(self) -> bool:
        """Whether the fast path, with `FEW` candidates, is exact."""
        return self.talker.few_are_enough and self.predictor.few_are_enough

    @property
    def is_drawn(self) -> tuple[bool, bool]:
        """Whether codes are sampled randomly: the first code of a frame, the others."""
        return self.talker.temperature > 0, self.predictor.temperature > 0

    def numbers(self) -> list[float]:
        """Return the numbers that `Settings.of_rows` reads."""
        return [*_numbers(self.talker), *_numbers(self.predictor), self.repetition_penalty]


SETTINGS = 7  # numbers that describe the sampling of a row


def _numbers(choice: Choice) -> list[float]:
    if choice.temperature == 0:
        return [1.0, 1.0, 1.0]  # only the most likely is left to choose
    return [1 / choice.temperature, choice.top_k or float("inf"), choice.top_p]


class Settings(NamedTuple):
    """The sampling options of B rows on the device."""

    inverse_temperature: Tensor  # [B, 1]
    last_rank: Tensor  # [B, 1] int64: the rank of the last candidate that top_k keeps
    top_p: Tensor | None  # [B, 1]; None: no row uses it, and none has more than `FEW` candidates

    @classmethod
    def of_rows(cls, numbers: Tensor, codes: int, *, few: bool) -> Self:
        """Read [B, 3] numbers, see `Sampling.numbers`, for a choice among `codes` codes."""
        inverse_temperature, top_k, top_p = numbers.split(1, dim=1)
        return cls(inverse_temperature, top_k.clamp(max=codes).long() - 1, None if few else top_p)


def choose(logits: Tensor, numbers: Tensor, settings: Settings, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """Choose a code for each row, from [B, V] float32 logits and [B, 1] float64 numbers in [0, 1).

    Returns the codes, [B], and the largest logits, [B], which are finite unless the network failed.  The number is
    looked up in the cumulative probabilities of the candidates, in the order of the codes: logits that differ by a
    rounding error then give the same code, unless the number is that close to a bound.  In double precision a
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
