"""The codec's decoder as a stateful decoder: from frames of codes to samples, in chunks of any length.

Every layer of the decoder is causal. A convolution needs the inputs that its kernel reaches back to,
the transformer the keys and values of its window. All of that is the state of an utterance, one vector. Given
its state, a chunk decodes to the same samples as within the whole utterance.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gpu_runner.engines.qwen.network.codec_layers import (
    Attention,
    Memory,
    convnext,
    convolve,
    pack_attention,
    pack_block,
    pack_codebooks,
    pack_snake,
    transpose,
)
from gpu_runner.engines.qwen.network.kernels import Kernels, make_norm
from gpu_runner.engines.qwen.network.layers import rotary

POSITIONS = 8_192  # frames of reference and generated audio that the rotary embedding is computed for
CONV_FRAMES = 16  # further than the convolutions after the transformer reach back


class Codec:
    """The decoder of a `Qwen3TTSTokenizerV2Model`, over its own weights. G codes and M samples per frame."""

    def __init__(self, decoder: Any, kernels: Kernels) -> None:
        self._decoder = decoder
        self._kernels = kernels
        config = decoder.config
        self.groups = int(config.num_quantizers)
        self.frame_samples = int(decoder.total_upsample)
        self._window = int(config.sliding_window)
        self._heads, self._head_dim = int(config.num_attention_heads), int(config.head_dim)
        with torch.no_grad():
            self._codebooks, self._offsets = pack_codebooks(decoder.quantizer)
            self._layers = [pack_attention(layer, config) for layer in decoder.pre_transformer.layers]
            self._norm = make_norm(decoder.pre_transformer.norm.weight, float(config.rms_norm_eps))
            self._cos, self._sin = rotary(decoder.pre_transformer.rotary_emb, POSITIONS)
            first, *blocks, snake, last = decoder.decoder
            self._first, self._blocks = first.conv, [pack_block(block.block) for block in blocks]
            self._last_snake, self._last = pack_snake(snake), last.conv
        self._parts = self._measure()

    @property
    def codebook_size(self) -> int:
        """The number of codes in a codebook."""
        return len(self._codebooks) // self.groups

    @property
    def device(self) -> torch.device:
        """The device of the decoder."""
        return self._codebooks.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of state and samples."""
        return self._codebooks.dtype

    @property
    def state_size(self) -> int:
        """The size N of an utterance's state."""
        return sum(self._parts)

    def start(self, rows: int) -> Tensor:
        """Return the initial state of R utterances: [R, N]."""
        return torch.zeros(rows, self.state_size, dtype=self.dtype, device=self.device)

    def decode(self, codes: Tensor, state: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Decode T more frames of R utterances.

        `codes` are [R, T, G], `state` is [R, N], `position` [R] the frames decoded before. Returns the
        [R, T M] samples and the new state.
        """
        front, back = state.split(self._parts, dim=1)
        hidden, front = self._front(codes, front, position)
        samples, back = self._back(hidden, back)
        return samples, torch.cat([front, back], dim=1)

    def remember(self, codes: Tensor) -> Tensor:
        """Return the state after F frames of one utterance, [F, G], without decoding their samples: [N].

        The convolutions after the transformer reach back a few frames only, so only those frames pass through them.
        """
        position = torch.zeros(1, dtype=torch.long, device=self.device)
        front, back = self.start(1).split(self._parts, dim=1)
        outputs = []
        for chunk in codes[None].split(self._window, dim=1):
            hidden, front = self._front(chunk, front, position)
            outputs.append(hidden)
            position = position + chunk.shape[1]
        _, back = self._back(torch.cat(outputs, dim=2)[:, :, -CONV_FRAMES:], back)
        return torch.cat([front, back], dim=1)[0]

    def _measure(self) -> tuple[int, int]:
        """Run a frame to measure the parts of the state: of the transformer, and of the convolutions after it."""
        codes = torch.zeros(1, 1, self.groups, dtype=torch.long, device=self.device)
        counting = torch.zeros(1, 1, dtype=self.dtype, device=self.device).expand(1, 1 << 40)
        position = torch.zeros(1, dtype=torch.long, device=self.device)
        with torch.inference_mode():
            hidden, front = self._front(codes, counting, position)
            _, back = self._back(hidden, counting)
        return front.shape[1], back.shape[1]

    def _front(self, codes: Tensor, state: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layers up to the transformer to [R, T, G] codes: [R, C, T]."""
        memory, decoder = Memory(state), self._decoder
        # An unused slot may hold any value, and an index beyond the table would be a fatal error of the device.
        rows = codes.clamp(0, self.codebook_size - 1) + self._offsets
        hidden = functional.embedding(rows, self._codebooks).sum(2).transpose(1, 2)  # [R, C, T]
        hidden = convolve(decoder.pre_conv.conv, hidden, memory).transpose(1, 2)  # [R, T, C]
        transformer = decoder.pre_transformer
        hidden = functional.linear(hidden, transformer.input_proj.weight, transformer.input_proj.bias)
        reads = self._reads(position, codes.shape[1])
        for layer in self._layers:
            hidden = self._run_layer(hidden, layer, memory, reads)
        hidden = self._kernels.normalize(hidden, *self._norm)
        hidden = functional.linear(hidden, transformer.output_proj.weight, transformer.output_proj.bias)
        return hidden.transpose(1, 2), memory.state()

    def _reads(self, position: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rotary embedding, [R, 1, T, d] twice, and the attention mask: [R, 1, T, W - 1 + T].

        A frame attends to itself and up to W - 1 frames before it.
        """
        own = torch.arange(frames, device=self.device)  # [T]
        other = torch.arange(1 - self._window, frames, device=self.device)  # [W - 1 + T]
        distance = own[:, None] - other
        seen = (distance >= 0) & (distance < self._window) & (position[:, None, None] + other >= 0)
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device).masked_fill(~seen, -torch.inf)
        at = (position[:, None] + own).clamp(max=POSITIONS - 1)
        cos, sin = functional.embedding(at, self._cos), functional.embedding(at, self._sin)
        return cos[:, None], sin[:, None], mask[:, None]

    def _run_layer(
        self, hidden: Tensor, layer: Attention, memory: Memory, reads: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """Apply a layer of the transformer to [R, T, D] frames."""
        cos, sin, mask = reads
        rows, frames, _ = hidden.shape
        qkv = functional.linear(self._kernels.normalize(hidden, *layer.input_norm), layer.qkv)
        qkv = qkv.view(rows, frames, 3 * self._heads, self._head_dim).transpose(1, 2)  # [R, 3 H, T, d]
        qk, values = qkv.split((2 * self._heads, self._heads), dim=1)
        qk = torch.addcmul(qk * cos, qk.roll(self._head_dim // 2, -1), sin)
        queries, keys = qk.chunk(2, dim=1)
        before = memory.take(2 * self._heads, self._window - 1, self._head_dim)
        both = torch.cat([before, torch.cat([keys, values], dim=1)], dim=2)  # [R, 2 H, W - 1 + T, d]
        memory.put(both[:, :, frames:])
        keys, values = both.chunk(2, dim=1)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        hidden = hidden + functional.linear(attended.transpose(1, 2).flatten(2), layer.output)
        gate_up = functional.linear(self._kernels.normalize(hidden, *layer.mlp_norm), layer.gate_up)
        return hidden + functional.linear(self._kernels.gate(gate_up), layer.down)

    def _back(self, hidden: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the convolutions to [R, C, T]: [R, T M] samples."""
        memory = Memory(state)
        for upsample, block in self._decoder.upsample:
            hidden = convnext(block, transpose(upsample.conv, hidden, memory), memory)
        hidden = convolve(self._first, hidden, memory)
        for block in self._blocks:
            hidden = block.run(hidden, memory, self._kernels)
        samples = convolve(self._last, self._kernels.snake(hidden, *self._last_snake), memory)
        return samples.squeeze(1).clamp(-1, 1), memory.state()
