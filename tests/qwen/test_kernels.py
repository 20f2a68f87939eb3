"""Compiled, the arithmetic is what it was; what can't be compiled goes on as it is."""

import shutil
from collections.abc import Callable

import pytest
import structlog
import torch
from torch import Tensor
from torch.nn import functional

from gpu_runner.engines.qwen.network import kernels
from gpu_runner.engines.qwen.network.kernels import PLAIN, compiled, kernels_for, make_norm

RANDOM = torch.Generator().manual_seed(1)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_norm_equals_rms_norm(scale: float) -> None:
    tokens, weight = random(5, 32) * scale, random(32)
    expected = functional.rms_norm(tokens, (32,), weight, 1e-6)
    assert torch.allclose(PLAIN.normalize(tokens, *make_norm(weight, 1e-6)), expected, rtol=1e-5)


ARGUMENTS: dict[str, Callable[[int], tuple[Tensor, ...]]] = {
    "normalize": lambda rows: (random(rows, 32), *make_norm(random(32), 1e-6)),
    "normalize_and_turn_": lambda rows: (
        random(rows, 8, 16)[:, :6],
        *make_norm(random(6, 16), 1e-6),
        random(rows, 1, 16),
        random(rows, 1, 16),
    ),
    "gate": lambda rows: (random(rows, 64),),
    "draw": lambda rows: (
        random(rows, 100),
        torch.zeros(rows, 1),
        torch.ones(rows, 1),
        torch.rand(rows, 1, generator=RANDOM).double(),
    ),
    "snake": lambda rows: (random(rows, 8, 50), random(8, 1).exp(), random(8, 1).exp()),
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
@pytest.mark.filterwarnings("ignore")  # of torch itself
def test_compiled_kernels_equal_plain() -> None:
    fused = compiled()
    with structlog.testing.capture_logs() as logs:
        for name, arguments in ARGUMENTS.items():
            for rows in (1, 2, 7):
                mine = arguments(rows)
                other = [tensor.clone() for tensor in mine]
                results = getattr(fused, name)(*mine), getattr(PLAIN, name)(*other)
                changed = zip(mine, other, strict=True)
                for one, another in [results] if results[0] is not None else changed:
                    assert torch.allclose(one, another, atol=1e-5), name
    assert logs == []


@pytest.mark.filterwarnings("ignore")
def test_uncompilable_kernel_falls_back() -> None:
    def looks(tensor: Tensor) -> Tensor:
        return tensor if tensor.sum().item() > 0 else -tensor

    function = kernels._Compiled(looks)
    with structlog.testing.capture_logs() as logs:
        assert torch.equal(function(torch.ones(2)), torch.ones(2))
        assert torch.equal(function(-torch.ones(2)), torch.ones(2))
    assert [entry["kernel"] for entry in logs] == ["looks"]


@pytest.mark.parametrize(
    "error",
    [torch._dynamo.exc.FailOnRecompileLimitHit("limit"), RuntimeError("Triton Error [CUDA]: invalid argument")],
)
def test_kernel_that_fails_to_launch_falls_back(error: Exception) -> None:
    def fail(_: Tensor) -> Tensor:
        raise error

    function = kernels._Compiled(torch.neg)
    function._run = fail
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert torch.equal(function(torch.ones(2)), -torch.ones(2))
    assert len(logs) == 1


def test_cpu_kernels_are_plain() -> None:
    assert kernels_for(torch.device("cpu")) is PLAIN


def test_gpu_without_compiler_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with structlog.testing.capture_logs() as logs:
        assert kernels_for(torch.device("cuda", 0)) is PLAIN
    assert "no C compiler" in logs[0]["event"]
