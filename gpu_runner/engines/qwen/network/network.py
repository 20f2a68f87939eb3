"""Talker and code predictor, ready to run: packed weights, tables, and parameters from the configuration."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gpu_runner.engines.qwen.network.kernels import Kernels
from gpu_runner.engines.qwen.network.layers import Transformer, pack_transformer, pack_weights

SPECIAL_CODES = 1_024  # ids above the codes in the talker's vocabulary, none of them speech
LEAST_FRAMES = 2  # as intended for the published models: an utterance has at least two frames


class Network(NamedTuple):
    """G is the number of codes in a frame, V the talker's vocabulary, C the predictor's."""

    talker: Transformer  # hidden size D
    head: Tensor  # [V, D]
    predictor: Transformer  # hidden size P
    predictor_heads: tuple[Tensor, ...]  # G - 1 of [C, P]
    embeddings: Tensor  # [V + (G - 1) C, D]: the tables of a frame's codes, one after the other
    offsets: Tensor  # [G]: the offset of each table in `embeddings`
    predictor_inputs: tuple[Tensor, ...]  # G of [V or C, P]: the same tables as the predictor reads them
    projection: tuple[Tensor, Tensor] | None  # weight and bias from D to P; None: no projection
    mask_of_two: Tensor  # [1, 1, 2 G', 2], G' query heads that share a key head: the first attends to itself alone
    forbidden: Tensor  # [2, V] float32: 0, or -inf for excluded ids; rows: before the end is allowed, after
    end: int  # the id of the end token
    kernels: Kernels

    @property
    def groups(self) -> int:
        """Codes per frame."""
        return len(self.predictor_inputs)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of weights and activations."""
        return self.head.dtype

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.head.device

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Embed F frames, [F, G] codes, each as the sum of its codes' embeddings: [F, D]."""
        return functional.embedding(codes + self.offsets, self.embeddings).sum(1)

    def project(self, hidden: Tensor) -> Tensor:
        """Project the talker's [B, D] to the predictor's [B, P]."""
        return hidden if self.projection is None else functional.linear(hidden, *self.projection)


@torch.no_grad()
def pack_network(talker: Any, positions: int, kernels: Kernels) -> Network:
    """Pack the library's talker (`Qwen3TTSTalkerForConditionalGeneration`) for sequences of so many positions."""
    predictor, config = talker.code_predictor, talker.config
    tables = [talker.get_input_embeddings(), *predictor.get_input_embeddings()]
    sizes = [len(table.weight) for table in tables]
    embeddings = pack_weights(tables)
    project = predictor.small_to_mtp_projection
    projection = None if isinstance(project, torch.nn.Identity) else (project.weight, project.bias)
    inputs = embeddings if projection is None else functional.linear(embeddings, *projection)
    return Network(
        talker=pack_transformer(talker.model, config, positions),
        head=talker.codec_head.weight,
        predictor=pack_transformer(predictor.model, predictor.config, len(tables)),
        predictor_heads=tuple(head.weight for head in predictor.lm_head),
        embeddings=embeddings,
        offsets=torch.tensor([0, *sizes[:-1]], device=embeddings.device).cumsum(0),
        predictor_inputs=inputs.split(sizes),
        projection=projection,
        mask_of_two=_mask_of_two(predictor.config, talker.codec_head.weight),
        forbidden=_forbidden(int(config.vocab_size), int(config.codec_eos_token_id), embeddings.device),
        end=int(config.codec_eos_token_id),
        kernels=kernels,
    )


def _forbidden(size: int, end: int, device: torch.device) -> Tensor:
    ids = torch.arange(size, device=device)
    special = ids >= size - SPECIAL_CODES
    masks = torch.stack([special, special & (ids != end)])
    return torch.zeros(masks.shape, device=device).masked_fill(masks, -torch.inf)


def _mask_of_two(config: Any, like: Tensor) -> Tensor:
    mask = like.new_zeros(2, config.num_attention_heads // config.num_key_value_heads, 2)
    mask[0, :, 1] = -torch.inf
    return mask.view(1, 1, -1, 2)
