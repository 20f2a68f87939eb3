"""Matrix products with int8 weights on a CPU, by torch's dynamic quantization.

Reading the weights takes most of the time of a frame. They have one byte and a scale per output channel. The inputs
are quantized for each product.
"""

import warnings

import torch
from torch import Tensor

LARGEST = 127


class Int8Matrix:
    """A [D, N] matrix in int8, as the right operand of a product.

    Without VNNI instructions, the products of 8-bit numbers can overflow, and the inputs have 7 bits:
    `reduce_range` in https://docs.pytorch.org/docs/stable/quantization.html.
    """

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        """Pack int8 weights [N, D] with their float32 scales [N]."""
        with warnings.catch_warnings():
            # torch announces the removal of quantized tensors in a later release. The version of torch is locked.
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            quantized = torch._make_per_channel_quantized_tensor(
                weight, scale.double(), torch.zeros(len(scale), dtype=torch.long), 0
            )
            self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        self._reduce = torch.backends.quantized.engine != "qnnpack" and not has_vnni()

    def multiply(self, tokens: Tensor) -> Tensor:
        """Return the product with float32 [R, D] tokens: [R, N].

        One range covers all inputs of a product. So each row is scaled to a largest value of 1 first. Otherwise one
        large row, such as that of the first token of a prompt, would round the others to zero.
        """
        if len(tokens) == 1:
            return self._multiply(tokens)
        largest = tokens.abs().amax(1, keepdim=True).clamp_min_(1e-30)
        # A row that is not finite stays so, without an effect on the range of the others.
        return self._multiply((tokens / largest).nan_to_num_()).mul_(largest)

    def _multiply(self, tokens: Tensor) -> Tensor:
        product: Tensor = torch.ops.quantized.linear_dynamic(tokens, self._packed, self._reduce)
        return product


def has_vnni() -> bool:
    """Return whether torch's int8 kernels use VNNI instructions of this CPU."""
    return bool(torch.cpu.get_capabilities().get("avx512_vnni"))


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize a [N, D] matrix to int8, with one float32 scale per row: [N, D] and [N]."""
    scale = (weight.float().abs().amax(1) / LARGEST).clamp_min_(1e-12)
    return (weight.float() / scale[:, None]).round_().to(torch.int8), scale


def multiply(tokens: Tensor, matrix: Tensor | Int8Matrix) -> Tensor:
    """Return the product of [R, D] tokens with a [D, N] matrix."""
    return torch.mm(tokens, matrix) if isinstance(matrix, Tensor) else matrix.multiply(tokens)


def add_product(tokens: Tensor, inputs: Tensor, matrix: Tensor | Int8Matrix) -> Tensor:
    """Return tokens [R, N] plus the product of [R, D] inputs with a [D, N] matrix."""
    if isinstance(matrix, Tensor):
        return torch.addmm(tokens, inputs, matrix)
    return matrix.multiply(inputs).add_(tokens)
