import numpy as np
import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from gpu_runner.engines.qwen.sampling import Chooser, Sampling
from pipeline.contract.records import Options

CPU = torch.device("cpu")
LOGITS = torch.randn(3, 40, generator=torch.Generator().manual_seed(3)) * 3


def support(sampling: Sampling, logits: torch.Tensor) -> set[int]:
    """Which codes a dense sweep of random numbers finds."""
    numbers = torch.linspace(0, 1, 20001)[:-1]
    chooser = Chooser([sampling] * len(numbers), CPU)
    return set(chooser.choose(logits.expand(len(numbers), -1), numbers).tolist())


def test_chances_are_those_of_the_softmax() -> None:
    numbers = torch.linspace(0, 1, 100001)[:-1]
    chooser = Chooser([Sampling(0.7, 0, 1.0, 1.0)] * len(numbers), CPU)
    found = chooser.choose(LOGITS[:1].expand(len(numbers), -1), numbers)
    shares = torch.bincount(found, minlength=40) / len(numbers)
    assert torch.allclose(shares, (LOGITS[0] / 0.7).softmax(-1), atol=1e-4)


@pytest.mark.parametrize("top_k", [1, 2, 7, 39])
def test_top_k_is_that_of_transformers(top_k: int) -> None:
    kept = TopKLogitsWarper(top_k)(torch.empty(1, 0), LOGITS[:1]).isfinite()[0].nonzero().flatten()
    assert support(Sampling(2.0, top_k, 1.0, 1.0), LOGITS[0]) <= set(kept.tolist())
    assert int(LOGITS[0].argmax()) in support(Sampling(2.0, top_k, 1.0, 1.0), LOGITS[0])
    assert len(kept) == top_k


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_top_p_is_that_of_transformers(top_p: float) -> None:
    kept = TopPLogitsWarper(top_p)(torch.empty(1, 0), LOGITS[:1]).isfinite()[0].nonzero().flatten()
    assert support(Sampling(1.0, 0, top_p, 1.0), LOGITS[0]) == set(kept.tolist())


def test_the_penalty_is_that_of_transformers() -> None:
    used = torch.tensor([[1, 5, 5], [0, 2, 9], [3, 3, 3]])
    seen = torch.zeros(3, 40, dtype=torch.bool).scatter(1, used, value=True)
    mine = Chooser([Sampling(1, 0, 1, 1.3)] * 3, CPU).penalise(LOGITS, seen)
    assert torch.equal(mine, RepetitionPenaltyLogitsProcessor(1.3)(used, LOGITS.clone()))


@pytest.mark.parametrize("number", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_a_code_without_a_chance_is_never_chosen(number: float) -> None:
    logits = torch.full((1, 10), -torch.inf)
    logits[0, 4] = 1.0
    assert Chooser([Sampling(1, 0, 1, 1)], CPU).choose(logits, torch.tensor([number])).tolist() == [4]


def test_rows_keep_their_own_ways_in_a_batch() -> None:
    ways = [Sampling(0, 50, 1, 1), Sampling(1.0, 3, 1, 1), Sampling(1.5, 0, 0.6, 1)]
    numbers = torch.tensor([0.9, 0.37, 0.81])
    together = Chooser(ways, CPU).choose(LOGITS, numbers)
    alone = [Chooser([way], CPU).choose(LOGITS[n : n + 1], numbers[n : n + 1]).item() for n, way in enumerate(ways)]
    assert together.tolist() == alone


def test_options_come_before_the_defaults_of_the_model() -> None:
    defaults = Sampling.of_config({"temperature": 0.8, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.1})
    assert defaults.with_options(Options()) == defaults
    assert defaults.with_options(Options(temperature=0, top_k=0)) == Sampling(0, 0, 0.9, 1.1)
