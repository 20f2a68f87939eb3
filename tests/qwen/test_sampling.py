import numpy as np
import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpu_runner.engines.qwen.network.kernels import PLAIN
from gpu_runner.engines.qwen.network.sampling import Sampling, Settings, choose, penalise
from pipeline.contract.records import Options

LOGITS = torch.randn(3, 100, generator=torch.Generator().manual_seed(3)) * 3


def same(temperature: float, top_k: int, top_p: float) -> Sampling:
    """Use the same options for both networks."""
    return Sampling(temperature, top_k, top_p, temperature, top_k, top_p, 1.0)


def chosen(choice: Sampling, logits: torch.Tensor, numbers: torch.Tensor) -> list[int]:
    """Choose for each row of logits, or for each number from the same logits."""
    rows = logits.expand(len(numbers), -1)
    described = torch.tensor([choice.numbers()[:3]] * len(numbers))
    settings = Settings.of_rows(described, logits.shape[-1], few=choice.few_are_enough)
    codes, best = choose(rows, numbers.double()[:, None], settings, PLAIN)
    assert torch.equal(best, rows.amax(-1))
    return codes.tolist()


def support(choice: Sampling, logits: torch.Tensor) -> set[int]:
    """Which codes a dense sweep of random numbers finds."""
    return set(chosen(choice, logits, torch.linspace(0, 1, 20001)[:-1]))


@pytest.mark.parametrize("choice", [same(0.7, 0, 1.0), same(0.7, 64, 1.0), same(0.7, 50, 0.8)])
def test_distribution_equals_transformers(choice: Sampling) -> None:
    found = torch.tensor(chosen(choice, LOGITS[0], torch.linspace(0, 1, 100001)[:-1]))
    shares = torch.bincount(found, minlength=100) / len(found)
    logits = TemperatureLogitsWarper(choice.temperature)(torch.empty(1, 0), LOGITS[:1])
    if choice.top_k:
        logits = TopKLogitsWarper(choice.top_k)(torch.empty(1, 0), logits)
    if choice.top_p < 1:
        logits = TopPLogitsWarper(choice.top_p)(torch.empty(1, 0), logits)
    assert torch.allclose(shares, logits[0].softmax(-1), atol=1e-4)


@pytest.mark.parametrize("top_k", [1, 2, 7, 64, 65, 99])
def test_top_k_equals_transformers(top_k: int) -> None:
    kept = TopKLogitsWarper(top_k)(torch.empty(1, 0), LOGITS[:1]).isfinite()[0].nonzero().flatten()
    found = support(same(2.0, top_k, 1.0), LOGITS[0])
    assert found <= set(kept.tolist())
    assert int(LOGITS[0].argmax()) in found
    assert len(kept) == top_k


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_top_p_equals_transformers(top_p: float) -> None:
    kept = TopPLogitsWarper(top_p)(torch.empty(1, 0), LOGITS[:1]).isfinite()[0].nonzero().flatten()
    assert support(same(1.0, 0, top_p), LOGITS[0]) == set(kept.tolist())


def test_penalty_equals_transformers() -> None:
    used = torch.tensor([[1, 5, 5], [0, 2, 9], [3, 3, 3]])
    seen = torch.zeros(3, 100, dtype=torch.bool).scatter(1, used, value=True)
    mine = penalise(LOGITS, seen, torch.full((3, 1), 1.3))
    assert torch.equal(mine, RepetitionPenaltyLogitsProcessor(1.3)(used, LOGITS.clone()))


@pytest.mark.parametrize("number", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
@pytest.mark.parametrize("choice", [same(1.0, 0, 1.0), same(1.0, 50, 1.0), same(1.0, 0, 0.5)])
def test_probability_zero_never_chosen(number: float, choice: Sampling) -> None:
    logits = torch.full((1, 100), -torch.inf)
    logits[0, 4] = 1.0
    assert chosen(choice, logits, torch.tensor([number])) == [4]


def test_greedy_takes_first_of_equals() -> None:
    logits = torch.tensor([[1.0, 5.0, 5.0, 0.0]])
    assert chosen(same(0, 50, 1.0), logits, torch.tensor([0.0])) == [1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_non_finite_logits_detected(value: float) -> None:
    logits = LOGITS.clone()
    logits[1, 7] = value
    settings = Settings.of_rows(torch.tensor([[1.0, 50.0, 1.0]] * 3), 100, few=True)
    codes, best = choose(logits, torch.full((3, 1), 0.5).double(), settings, PLAIN)
    assert best.isfinite().tolist() == [True, False, True]
    assert all(0 <= code < 100 for code in codes.tolist())


def test_options_per_row() -> None:
    ways = [same(0, 50, 1.0), same(1.0, 3, 1.0), same(1.5, 0, 0.6)]
    numbers = torch.tensor([0.0, 0.37, 0.81])
    described = torch.tensor([way.numbers()[:3] for way in ways])
    settings = Settings.of_rows(described, 100, few=False)
    together, _ = choose(LOGITS, numbers.double()[:, None], settings, PLAIN)
    alone = [chosen(way, LOGITS[n], numbers[n : n + 1])[0] for n, way in enumerate(ways)]
    assert together.tolist() == alone


CONFIG = {
    "do_sample": True,
    "temperature": 0.8,
    "top_k": 30,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "subtalker_dosample": True,
    "subtalker_temperature": 0.7,
    "subtalker_top_k": 20,
    "subtalker_top_p": 0.95,
}


def test_defaults_from_generation_config() -> None:
    assert Sampling.of_config(CONFIG) == Sampling(0.8, 30, 0.9, 0.7, 20, 0.95, 1.1)
    greedy = Sampling.of_config(CONFIG | {"do_sample": False})
    assert (greedy.temperature, greedy.subtalker_temperature) == (0, 0.7)
    greedy = Sampling.of_config(CONFIG | {"subtalker_dosample": False})
    assert (greedy.temperature, greedy.subtalker_temperature) == (0.8, 0)


def test_options_override_talker_defaults() -> None:
    defaults = Sampling.of_config(CONFIG)
    assert defaults.with_options(Options()) == defaults
    asked = defaults.with_options(Options(temperature=0.5, top_k=0, top_p=0.8, repetition_penalty=1))
    assert asked == Sampling(0.5, 0, 0.8, 0.7, 20, 0.95, 1.0)


def test_temperature_0_is_greedy() -> None:
    asked = Sampling.of_config(CONFIG).with_options(Options(temperature=0))
    assert (asked.temperature, asked.subtalker_temperature) == (0, 0)
