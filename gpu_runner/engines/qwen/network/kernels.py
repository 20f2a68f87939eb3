"""The arithmetic between the matrix products: each function is compiled to one or two kernels on a GPU.

Only these are compiled, not whole layers: they take tensors of any batch size and nothing else, so that each is
compiled once, in seconds.
"""

import os
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
import torch
from torch import Tensor
from torch.nn import functional

log = structlog.get_logger()


class Norm(NamedTuple):
    """Weights of an RMS norm over n features."""

    weight: Tensor  # [.., n]: times the square root of n
    floor: Tensor  # [1] float32: the square root of n eps


def make_norm(weight: Tensor, eps: float) -> Norm:
    """Prepare the weights of an RMS norm."""
    size = weight.shape[-1]
    return Norm(weight * size**0.5, torch.tensor([(size * eps) ** 0.5], device=weight.device))


def normalize(tokens: Tensor, weight: Tensor, floor: Tensor) -> Tensor:
    """Apply an RMS norm, see `Norm`, to the last dimension.

    In this form it takes half the time of `torch.nn.functional.rms_norm` on a CPU, which lacks a fused kernel.
    """
    length: Tensor = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True, dtype=torch.float32)
    normed = tokens / length.hypot_(floor)
    return (normed if normed.dtype == tokens.dtype else normed.to(tokens.dtype)).mul_(weight)


def normalize_and_turn_(tokens: Tensor, weight: Tensor, floor: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Apply an RMS norm and the rotary position embedding, in place. The first half of `sin` is negated."""
    length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True, dtype=torch.float32)
    tokens.div_(length.hypot_(floor)).mul_(weight)
    turned = tokens.roll(tokens.shape[-1] // 2, -1)
    tokens.mul_(cos).addcmul_(turned, sin)


def gate(both: Tensor) -> Tensor:
    """Multiply one half of the last dimension by the SiLU of the other."""
    first, second = both.chunk(2, dim=-1)
    return functional.silu(first).mul_(second)


def draw(logits: Tensor, least: Tensor, inverse_temperature: Tensor, numbers: Tensor) -> Tensor:
    """Sample from the codes with logits of at least `least`, by inverse CDF: see `sampling.choose`."""
    kept = torch.where(logits < least, -torch.inf, logits * inverse_temperature)
    sums = kept.softmax(-1, dtype=torch.float64).cumsum(-1)  # [B, V]
    return (sums <= numbers * sums[:, -1:]).sum(-1)


def snake(x: Tensor, a: Tensor, inverse_b: Tensor) -> Tensor:
    """Add sin(a x)² / b to x, [R, C, T], for each channel."""
    return torch.addcmul(x, (x * a).sin().square(), inverse_b)


class Kernels(NamedTuple):
    """The functions above, compiled or not."""

    normalize: Callable[[Tensor, Tensor, Tensor], Tensor]
    normalize_and_turn_: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
    gate: Callable[[Tensor], Tensor]
    draw: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    snake: Callable[[Tensor, Tensor, Tensor], Tensor]


PLAIN = Kernels(normalize, normalize_and_turn_, gate, draw, snake)


def kernels_for(device: torch.device) -> Kernels:
    """Return the kernels, compiled where it is possible and worthwhile: on a GPU, with a C compiler."""
    if device.type != "cuda":
        return PLAIN
    if shutil.which(os.environ.get("CC", "cc")) is None:
        log.warning("no C compiler: the arithmetic is not fused, and a frame takes several times as long")
        return PLAIN
    return compiled()


def compiled() -> Kernels:
    """Return kernels that are compiled on first use."""
    # One for each number of dimensions and each precision, and one more for batches of one.
    torch._dynamo.config.recompile_limit = 32
    return Kernels(*[_Compiled(function) for function in PLAIN])


class _Compiled:
    """A function that is compiled at its first call, or runs uncompiled if it can't be."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._run: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=True)

    def __call__(self, *tensors: Tensor) -> Any:
        try:
            result = self._run(*tensors)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of dynamo, of the inductor, or of a Triton launch; they have no common type
            line = next(iter(str(error).splitlines()), "")
            log.warning("a kernel can't be compiled", kernel=self._function.__name__, reason=line)
            self._run = self._function
            result = self._function(*tensors)
        return result
