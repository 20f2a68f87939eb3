"""The transformer of the talker and of the code predictor, over the library's weights.

The projections that read the same input are packed into one matrix. The library's modules then hold views of the
packed weights, so that packing takes no memory.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gpu_runner.engines.qwen.network.int8 import Int8Matrix, add_product, multiply
from gpu_runner.engines.qwen.network.kernels import Kernels, Norm, make_norm


class Shape(NamedTuple):
    """Sizes of a transformer: H query heads share K key heads of dimension d."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.heads // self.kv_heads


class Layer(NamedTuple):
    """Weights of a layer with hidden size D and MLP size I."""

    input_norm: Norm  # [D]
    qkv: Tensor | Int8Matrix  # [D, (H + 2K) d]
    qk_norm: Norm  # [H + K, d]
    output: Tensor | Int8Matrix  # [H d, D]
    mlp_norm: Norm  # [D]
    gate_up: Tensor | Int8Matrix  # [D, 2 I]
    down: Tensor | Int8Matrix  # [I, D]


class PassMetadata(NamedTuple):
    """Describes a pass of T tokens for each of B rows. It is the same in every layer.

    The tokens attend to what their rows have in the cache up to position `length`, or, when it is 0, to each other,
    each to those before it and itself.
    """

    batch: int
    length: int
    cos: Tensor  # [B T or 1, 1, d]
    sin: Tensor  # the same, its first half negated
    where: Tensor  # [B T 2K]: rows of a layer's flattened cache that each token's keys and values go to
    mask: Tensor | None  # [B or 1, 1, T G, L]: 0 where a query attends to a position, else -inf; None: to all


class LayerCache(NamedTuple):
    """The KV cache of a layer, for S slots of L positions. All three are views of one buffer."""

    rows: Tensor  # [2 S K L, d]
    keys: Tensor  # [B, K, length, d]: those that a pass attends to
    values: Tensor


class Caches:
    """The KV caches of a stack of layers."""

    def __init__(self, buffer: Tensor) -> None:
        self._buffer = buffer  # [layers, 2, S, K, L, d]
        self._views: dict[tuple[int, int], Sequence[LayerCache]] = {}

    def first(self, batch: int, length: int) -> Sequence[LayerCache]:
        """Return the caches, with `length` positions of the first `batch` slots to attend to.

        Views are kept: creating those of a frame takes a CPU as long as a tenth of its arithmetic.
        """
        views = self._views.get((batch, length))
        if views is None:
            views = self._views[batch, length] = [
                LayerCache(layer.view(-1, layer.shape[-1]), *layer[:, :batch, :, :length]) for layer in self._buffer
            ]
        return views


class Transformer(NamedTuple):
    """A stack of layers, with the norm after them."""

    layers: tuple[Layer, ...]
    norm: Norm  # [D]
    shape: Shape
    cos: Tensor  # [positions, 1, d], see `PassMetadata`
    sin: Tensor

    def run(self, tokens: Tensor, caches: Sequence[LayerCache], metadata: PassMetadata, kernels: Kernels) -> Tensor:
        """Return the normalized outputs of [B T, D] tokens."""
        for layer, cache in zip(self.layers, caches, strict=True):
            tokens = _run_layer(tokens, layer, self.shape, cache, metadata, kernels)
        return kernels.normalize(tokens, *self.norm)


def _run_layer(
    tokens: Tensor, layer: Layer, shape: Shape, cache: LayerCache, metadata: PassMetadata, kernels: Kernels
) -> Tensor:
    heads, kv_heads, size = shape
    qkv = multiply(kernels.normalize(tokens, *layer.input_norm), layer.qkv)
    qkv = qkv.view(-1, heads + 2 * kv_heads, size)  # [B T, H + 2K, d]
    qk = qkv[:, : heads + kv_heads]
    kernels.normalize_and_turn_(qk, *layer.qk_norm, metadata.cos, metadata.sin)
    cache.rows.index_copy_(0, metadata.where, qkv[:, heads:].reshape(-1, size))
    attended = (
        _attend_to_cache(qk, cache, shape, metadata) if metadata.length else _attend(qkv, shape, metadata.batch)
    )
    tokens = add_product(tokens, attended, layer.output)
    gate_up = multiply(kernels.normalize(tokens, *layer.mlp_norm), layer.gate_up)
    return add_product(tokens, kernels.gate(gate_up), layer.down)


def _attend_to_cache(qk: Tensor, cache: LayerCache, shape: Shape, metadata: PassMetadata) -> Tensor:
    """Attend to the cache: the queries that share a key head are treated as queries of one head.

    So the keys are read once and not repeated.
    """
    _, keys, values = cache
    queries = qk[:, : shape.heads]  # [B T, H, d]
    tokens = len(queries) // metadata.batch
    if tokens == 1:
        queries = queries.view(-1, shape.kv_heads, shape.group, shape.head_dim)  # [B, K, G, d]
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=metadata.mask).flatten(1)
    parts = (metadata.batch, tokens, shape.kv_heads, shape.group, shape.head_dim)
    queries = queries.reshape(parts).transpose(1, 2).flatten(2, 3)  # [B, K, T G, d]
    attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=metadata.mask)
    attended = attended.view(metadata.batch, shape.kv_heads, tokens, shape.group, shape.head_dim)
    return attended.transpose(1, 2).reshape(len(qk), -1)


def _attend(qkv: Tensor, shape: Shape, batch: int) -> Tensor:
    per_head = qkv.view(batch, -1, *qkv.shape[1:]).transpose(1, 2)  # [B, H + 2K, T, d]
    queries, keys, values = per_head.split((shape.heads, shape.kv_heads, shape.kv_heads), dim=1)
    attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
    return attended.transpose(1, 2).reshape(len(qkv), -1)


def pack_transformer(model: Any, config: Any, positions: int) -> Transformer:
    """Pack the weights of the library's `model`, and compute the rotary embedding of `positions` positions.

    Its three rows of positions (mRoPE) are the same for speech, which reduces it to plain RoPE.
    """
    shape = Shape(config.num_attention_heads, config.num_key_value_heads, int(config.head_dim))
    eps = float(config.rms_norm_eps)
    cos, sin = (part.to(model.norm.weight.dtype)[:, None] for part in rotary(model.rotary_emb, positions))
    layers = tuple(_pack_layer(layer, shape, eps) for layer in model.layers)
    return Transformer(layers, make_norm(model.norm.weight, eps), shape, cos, sin)


def _pack_layer(layer: Any, shape: Shape, eps: float) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    norms = [attention.q_norm.weight.expand(shape.heads, -1), attention.k_norm.weight.expand(shape.kv_heads, -1)]
    return Layer(
        input_norm=make_norm(layer.input_layernorm.weight, eps),
        qkv=_pack_matrix(attention.q_proj, attention.k_proj, attention.v_proj),
        qk_norm=make_norm(torch.cat(norms), eps),
        output=_pack_matrix(attention.o_proj),
        mlp_norm=make_norm(layer.post_attention_layernorm.weight, eps),
        gate_up=_pack_matrix(mlp.gate_proj, mlp.up_proj),
        down=_pack_matrix(mlp.down_proj),
    )


def _pack_matrix(*modules: Any) -> Tensor | Int8Matrix:
    """Return the matrix of modules that read the same input. Int8 weights are copied, and the modules lose them."""
    packed = pack_weights(modules)
    if packed.dtype != torch.int8:
        return packed.t()
    for module in modules:
        module.weight = None
    return Int8Matrix(packed, torch.cat([module.scale for module in modules]))


def pack_weights(modules: Sequence[Any]) -> Tensor:
    """Concatenate the weights of several modules, [n, D] each, and replace them in the modules by views."""
    if any(getattr(module, "bias", None) is not None for module in modules):
        raise TypeError(f"{type(modules[0]).__name__} has a bias, which the packed weights leave out")
    packed = torch.cat([module.weight.data for module in modules])
    for module, part in zip(modules, packed.split([len(module.weight) for module in modules]), strict=True):
        module.weight.data = part
    return packed


def rotary(embedding: Any, positions: int) -> tuple[Tensor, Tensor]:
    """Compute a rotary embedding for `positions` positions: [positions, d] float32 twice, see `PassMetadata`."""
    frequencies = embedding.inv_freq.float()  # [d / 2]
    angles = torch.arange(positions, device=frequencies.device)[:, None] * frequencies
    cos, sin = angles.cos() * embedding.attention_scaling, angles.sin() * embedding.attention_scaling
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
