"""The layers of the codec's decoder, each with its state of an utterance."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu_runner.engines.qwen.network.kernels import Kernels, Norm, make_norm


class Attention(NamedTuple):
    """A layer of the transformer, of D features per frame. Its layer scales are folded into `output` and `down`."""

    input_norm: Norm
    qkv: Tensor  # [3 H d, D]
    output: Tensor  # [D, H d]
    mlp_norm: Norm
    gate_up: Tensor  # [2 I, D]
    down: Tensor  # [D, I]


class Snake(NamedTuple):
    """Constants of the activation, see `kernels.snake`."""

    a: Tensor  # [C, 1]
    inverse_b: Tensor


class Memory:
    """The state of R utterances during a pass through the decoder: each part is read and replaced in turn."""

    def __init__(self, state: Tensor) -> None:
        self._state = state  # [R, N]
        self._read = 0
        self._replaced: list[Tensor] = []

    def take(self, *shape: int) -> Tensor:
        """Read the next part: [R, *shape]."""
        start = self._read
        self._read += torch.Size(shape).numel()
        return self._state[:, start : self._read].view(-1, *shape)

    def put(self, part: Tensor) -> None:
        """Replace the part that was read last."""
        self._replaced.append(part.flatten(1))

    def extend(self, x: Tensor, length: int) -> Tensor:
        """Prepend the last `length` inputs to x, [R, C, T], and store the last ones of the result."""
        if length == 0:
            return x
        longer = torch.cat([self.take(x.shape[1], length), x], dim=2)
        self.put(longer[:, :, longer.shape[2] - length :])
        return longer

    def state(self) -> Tensor:
        """Return the new state: [R, N]."""
        return torch.cat(self._replaced, dim=1)


Unit = tuple[Snake, nn.Conv1d, Snake, nn.Conv1d]  # a residual unit of two activated convolutions


class Block(NamedTuple):
    """An upsampling with its residual units."""

    snake: Snake
    upsample: nn.ConvTranspose1d
    units: Sequence[Unit]

    def run(self, x: Tensor, memory: Memory, kernels: Kernels) -> Tensor:
        """Apply it: [R, C, T] to [R, C / 2, T times the stride]."""
        x = transpose(self.upsample, kernels.snake(x, *self.snake), memory)
        for snake, wide, second_snake, narrow in self.units:
            inner = convolve(wide, kernels.snake(x, *snake), memory)
            x = x + convolve(narrow, kernels.snake(inner, *second_snake), memory)
        return x


def convolve(conv: nn.Conv1d, x: Tensor, memory: Memory) -> Tensor:
    """Convolve [R, C, T] causally."""
    reach = (conv.kernel_size[0] - 1) * conv.dilation[0]
    return functional.conv1d(
        memory.extend(x, reach), conv.weight, conv.bias, dilation=conv.dilation, groups=conv.groups
    )


def transpose(conv: nn.ConvTranspose1d, x: Tensor, memory: Memory) -> Tensor:
    """Upsample [R, C, T] by the stride, causally: an output depends on the input at its place and before."""
    stride, reach = conv.stride[0], -(-conv.kernel_size[0] // conv.stride[0]) - 1
    longer = memory.extend(x, reach)
    wave = functional.conv_transpose1d(longer, conv.weight, conv.bias, stride=conv.stride)
    return wave[:, :, reach * stride : (reach + x.shape[2]) * stride]


def convnext(block: Any, x: Tensor, memory: Memory) -> Tensor:
    """Apply a `Qwen3TTSTokenizerV2ConvNeXtBlock`: [R, C, T] to the same shape."""
    hidden = convolve(block.dwconv.conv, x, memory).transpose(1, 2)
    hidden = block.norm(hidden)
    hidden = block.pwconv2(functional.gelu(block.pwconv1(hidden)))
    result: Tensor = x + (block.gamma * hidden).transpose(1, 2)
    return result


def pack_snake(module: Any) -> Snake:
    """Pack the parameters of a `SnakeBeta`."""
    a, b = module.alpha.exp()[:, None], module.beta.exp()[:, None]
    return Snake(a, 1 / (b + module.no_div_by_zero))


def pack_block(block: Any) -> Block:
    """Pack the weights of a decoder block."""
    snake, upsample, *units = block
    packed = [(pack_snake(one.act1), one.conv1.conv, pack_snake(one.act2), one.conv2.conv) for one in units]
    return Block(pack_snake(snake), upsample.conv, packed)


def pack_attention(layer: Any, config: Any) -> Attention:
    """Pack the weights of a transformer layer."""
    attention, mlp, eps = layer.self_attn, layer.mlp, float(config.rms_norm_eps)
    return Attention(
        input_norm=make_norm(layer.input_layernorm.weight, eps),
        qkv=torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]),
        output=layer.self_attn_layer_scale.scale[:, None] * attention.o_proj.weight,
        mlp_norm=make_norm(layer.post_attention_layernorm.weight, eps),
        gate_up=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
        down=layer.mlp_layer_scale.scale[:, None] * mlp.down_proj.weight,
    )


def pack_codebooks(quantizer: Any) -> tuple[Tensor, Tensor]:
    """Return the projected embedding tables of all codes, [G codes, C], and the offset of each: [G]."""
    tables = [table for half in (quantizer.rvq_first, quantizer.rvq_rest) for table in _tables(half)]
    starts = torch.tensor([0, *(len(table) for table in tables[:-1])]).cumsum(0)
    return torch.cat(tables), starts.to(tables[0].device)


def _tables(half: Any) -> Iterator[Tensor]:
    projection = half.output_proj.weight.squeeze(2)  # [C, d]
    for layer in half.vq.layers:
        book = layer._codebook
        table = book.embedding_sum / book.cluster_usage.clamp(min=book.epsilon)[:, None]
        yield functional.linear(layer.project_out(table), projection)
