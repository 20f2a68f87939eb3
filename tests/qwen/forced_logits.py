"""Logits of given codes, the library's and ours: how far apart they are says how alike the arithmetic is."""

from typing import Any

import torch
from torch import Tensor

from gpu_runner.engines.qwen.checkpoint.loading import import_library
from gpu_runner.engines.qwen.network import frame
from gpu_runner.engines.qwen.network.frame import FrameSize
from gpu_runner.engines.qwen.network.graph_sizes import GraphSizes
from gpu_runner.engines.qwen.network.int8 import quantize
from gpu_runner.engines.qwen.network.kernels import PLAIN, Kernels
from gpu_runner.engines.qwen.network.network import Network, pack_network
from gpu_runner.engines.qwen.network.prefill import PrefillBuffers, PrefillRow, fill_buffers, fill_slots, prefill
from gpu_runner.engines.qwen.network.slots import allocate
from tests.qwen import tiny_checkpoint
from tests.qwen.stages import GREEDY
from tests.qwen.tiny_checkpoint import Sizes

PROMPT, FRAMES, LENGTH = 70, 12, 256


def build_talker(
    sizes: Sizes, *, dtype: torch.dtype, device: str = "cpu", predictor_hidden: int | None = None
) -> Any:
    """Create the library's talker with random weights; the predictor may be narrower, as in the 1.7B model."""
    import_library()
    from qwen_tts.core.models.configuration_qwen3_tts import Qwen3TTSConfig
    from qwen_tts.core.models.modeling_qwen3_tts import Qwen3TTSTalkerForConditionalGeneration

    vocabulary = dict.fromkeys(["<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>"], 0)
    config = tiny_checkpoint._model_config(sizes, vocabulary)
    if predictor_hidden:
        config["talker_config"]["code_predictor_config"]["hidden_size"] = predictor_hidden
    torch.manual_seed(3)
    whole = Qwen3TTSConfig(**tiny_checkpoint._arguments(config))
    talker = Qwen3TTSTalkerForConditionalGeneration(whole.talker_config).eval()
    return talker.to(device=device, dtype=dtype)


@torch.no_grad()
def quantize_layers(talker: Any) -> None:
    """Quantize the weights of the linear layers of both transformers, as they are loaded from a checkpoint."""
    for layers in (talker.model.layers, talker.code_predictor.model.layers):
        for module in layers.modules():
            if isinstance(module, torch.nn.Linear):
                weight, scale = quantize(module.weight)
                module.weight = torch.nn.Parameter(weight, requires_grad=False)
                module.register_buffer("scale", scale)


def given(talker: Any, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Draw a prompt, [1, T, D], and the codes that follow it, [F, G]."""
    random = torch.Generator().manual_seed(seed)
    groups, size = talker.config.num_code_groups, talker.code_predictor.config.vocab_size
    prompt = torch.randn(1, PROMPT, talker.config.hidden_size, generator=random) * 0.02
    weight = talker.codec_head.weight
    return prompt.to(weight), torch.randint(0, size, (FRAMES, groups), generator=random).to(weight.device)


@torch.inference_mode()
def logits_of_library(talker: Any, prompt: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of each frame's first code, [F, V], and of its others, [F, G - 1, C]."""
    predictor = talker.code_predictor
    tables = [talker.get_input_embeddings(), *predictor.get_input_embeddings()]
    embeds = torch.stack([table(codes[:, group]) for group, table in enumerate(tables)], dim=1)  # [F, G, D]
    attended = torch.cat([prompt, embeds.sum(1)[None, :-1]], dim=1)
    hidden = talker.model(inputs_embeds=attended, use_cache=False).last_hidden_state[0, PROMPT - 1 :]  # [F, D]
    tokens = torch.cat([hidden[:, None], embeds[:, :-1]], dim=1)
    outputs = predictor.model(inputs_embeds=predictor.small_to_mtp_projection(tokens), use_cache=False)
    others = [head(outputs.last_hidden_state[:, group]) for group, head in enumerate(predictor.lm_head, start=1)]
    return talker.codec_head(hidden).float(), torch.stack(others, dim=1).float()


@torch.inference_mode()
def logits_of_ours(talker: Any, prompt: Tensor, codes: Tensor, kernels: Kernels = PLAIN) -> tuple[Tensor, Tensor]:
    """Return the same, one frame at a time in a slot."""
    network = pack_network(talker, LENGTH, kernels)
    slots, sizes = allocate(network, 2, LENGTH), GraphSizes.for_eager(2, LENGTH)
    buffers, numbers = PrefillBuffers(network, sizes), torch.zeros(FRAMES, network.groups)
    new_row = PrefillRow(1, prompt[0], torch.zeros_like(prompt[0, :1]), GREEDY.numbers(), numbers, FRAMES)
    fill_buffers(buffers, slots, [new_row], 1, PROMPT - 1)
    prefill(network, slots, buffers, 1, PROMPT - 1)
    fill_slots(slots, [new_row], PROMPT - 1)
    first, others = [], []
    for forced in codes:
        hidden = frame._talk(network, slots, FrameSize(2, LENGTH, few=True))
        first.append((hidden @ network.head.t())[1].float())
        others.append(_others(network, slots, hidden, forced))
        slots.token[1] = network.embed_frames(forced[None])[0]
        slots.position[1] += 1
    return torch.stack(first), torch.stack(others)


def _others(network: Network, slots: Any, hidden: Tensor, forced: Tensor) -> Tensor:
    tokens = torch.stack([network.project(hidden), network.predictor_inputs[0][forced[:1]].expand(2, -1)], dim=1)
    tokens, logits = tokens.flatten(0, 1), []
    for group, head in enumerate(network.predictor_heads, start=1):
        metadata = frame._pass(network, slots, 2, group)
        outputs = network.predictor.run(
            tokens, slots.predictor_layers.first(metadata.batch, metadata.length), metadata, network.kernels
        )
        logits.append((outputs[-1:] @ head.t())[0].float())
        tokens = network.predictor_inputs[group][forced[group : group + 1]].expand(2, -1)
    return torch.stack(logits)


def error(mine: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Return the larger root mean square of the differences, in standard deviations of the logits."""
    return max(
        float((one - other).pow(2).mean().sqrt() / other.std()) for one, other in zip(mine, expected, strict=True)
    )
