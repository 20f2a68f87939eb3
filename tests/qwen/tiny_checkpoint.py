"""Builds a checkpoint of the real classes, with random weights: tiny for tests, of the published sizes for speed.

    python -m tests.qwen.tiny_checkpoint OUT [--sizes published]

Its files are those of Qwen/Qwen3-TTS-12Hz-0.6B-Base.  Nothing is fetched.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpu_runner.engines.qwen.checkpoint import stub_modules
from pipeline.contract.languages import LANGUAGES

GROUPS = 16  # codes a frame
SPECIALS = 1024  # ids after the codes in the talker's vocabulary; the library counts on their number
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is; the published values are the public config's."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mrope: tuple[int, int, int]  # parts of half a head; they sum to head_dim / 2
    predictor_layers: int
    text_hidden: int
    text_vocab: int | None  # None: as many as the tokenizer has
    codebook: int
    speaker: Config
    encoder: Config
    decoder: Config


TINY = Sizes(
    hidden=32,
    intermediate=64,
    layers=28,
    heads=4,
    kv_heads=2,
    head_dim=16,
    mrope=(4, 2, 2),
    predictor_layers=5,
    text_hidden=32,
    text_vocab=None,
    codebook=64,
    speaker={
        "enc_channels": [16, 16, 16, 16, 48],
        "enc_kernel_sizes": [5, 3, 3, 3, 1],
        "enc_dilations": [1, 2, 3, 4, 1],
        "enc_attention_channels": 8,
        "enc_se_channels": 8,
    },
    encoder={
        "hidden_size": 32,
        "num_filters": 4,
        "codebook_dim": 16,
        "vector_quantization_hidden_dimension": 16,
        "num_quantizers": GROUPS,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 64,
        "upsample_groups": 32,
    },
    decoder={
        "codebook_dim": 16,
        "hidden_size": 32,
        "latent_dim": 32,
        "head_dim": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "num_hidden_layers": 8,
        "decoder_dim": 64,
    },
)

PUBLISHED = Sizes(
    hidden=1024,
    intermediate=3072,
    layers=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    mrope=(24, 20, 20),
    predictor_layers=5,
    text_hidden=2048,
    text_vocab=151936,
    codebook=2048,
    speaker={},
    encoder={"num_quantizers": 32},
    decoder={
        "codebook_dim": 512,
        "hidden_size": 512,
        "latent_dim": 1024,
        "head_dim": 64,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 1024,
        "num_hidden_layers": 8,
        "decoder_dim": 1536,
    },
)


def build(out: Path, sizes: Sizes = TINY, *, seed: int = 7, dtype: torch.dtype = torch.float32) -> Path:
    """Write a whole checkpoint into `out`, the same one for the same arguments."""
    stub_modules.install()
    (out / "speech_tokenizer").mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocabulary = _write_text_tokenizer(out)
        _write_model(out, sizes, vocabulary, random, dtype)
        _write_codec(out / "speech_tokenizer", sizes, random)
    return out


def _write_text_tokenizer(out: Path) -> dict[str, int]:
    """Write a byte-level BPE: 256 bytes, the merges that make `assistant` one token, and the control tokens.

    The library cuts token ids by position: the role's words have to be one token each, as in the real one.
    """
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    word = "assistant"
    merges = [(word[:end], word[end]) for end in range(1, len(word))]
    symbols = [*bytes_to_unicode().values(), *(left + right for left, right in merges)]
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    control = {token: len(vocabulary) + number for number, token in enumerate(CONTROL_TOKENS)}
    _write_json(out / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (out / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_json(out / "tokenizer_config.json", _tokenizer_config(control))
    return vocabulary | control


def _tokenizer_config(control: dict[str, int]) -> Config:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "Qwen3TTSProcessor",
        "add_prefix_space": False,
        "added_tokens_decoder": {str(number): {"content": token, **flags} for token, number in control.items()},
        "additional_special_tokens": list(CONTROL_TOKENS[1:]),
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "split_special_tokens": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
    }


def _write_model(
    out: Path, sizes: Sizes, vocabulary: dict[str, int], random: torch.Generator, dtype: torch.dtype
) -> None:
    from qwen_tts.core.models.configuration_qwen3_tts import Qwen3TTSConfig
    from qwen_tts.core.models.modeling_qwen3_tts import Qwen3TTSForConditionalGeneration

    config = _model_config(sizes, vocabulary)
    model = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**_arguments(config))).eval()
    # Logits of freshly made layers are almost flat; wider ones make varied speech and an argmax that is stable.
    spread = 0.25 if sizes.hidden < 256 else 0.03
    _randomise(model.talker, random, lambda weight: spread)
    if sizes.hidden < 256:
        # So that speech ends by itself now and then.
        model.talker.codec_head.weight.data[config["talker_config"]["codec_eos_token_id"]] *= 1.6
    _randomise(model.speaker_encoder, random, lambda weight: 0.15 if sizes.hidden < 256 else 0.03)
    _write_weights(out, model.to(dtype), config | {"dtype": str(dtype).removeprefix("torch.")})
    _write_json(out / "generation_config.json", _generation_config())


def _model_config(sizes: Sizes, vocabulary: dict[str, int]) -> Config:
    base = sizes.codebook
    languages = [name.lower() for name in LANGUAGES if name != "Auto"]
    shape = {
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_dim,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "num_code_groups": GROUPS,
        "rope_theta": 1000000,
    }
    rope = {"rope_type": "default", "type": "default", "interleaved": True, "mrope_section": list(sizes.mrope)}
    talker = shape | {
        "vocab_size": base + SPECIALS,
        "num_hidden_layers": sizes.layers,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rope_scaling": rope,
        "text_hidden_size": sizes.text_hidden,
        "text_vocab_size": sizes.text_vocab or len(vocabulary),
        "codec_language_id": {name: base + 2 + number for number, name in enumerate(languages)},
        "codec_pad_id": base + 100,
        "codec_bos_id": base + 101,
        "codec_eos_token_id": base + 102,
        "codec_think_id": base + 106,
        "codec_nothink_id": base + 107,
        "codec_think_bos_id": base + 108,
        "codec_think_eos_id": base + 109,
        "spk_id": {},
        "spk_is_dialect": {},
        "position_id_per_seconds": 13,
        "code_predictor_config": shape
        | {"vocab_size": base, "num_hidden_layers": sizes.predictor_layers, "max_position_embeddings": 65536},
    }
    return {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "talker_config": talker,
        "speaker_encoder_config": {"mel_dim": 128, "enc_dim": sizes.hidden, "sample_rate": 24000, **sizes.speaker},
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_size": "0b6",
        "tts_model_type": "base",
        "im_start_token_id": vocabulary["<|im_start|>"],
        "im_end_token_id": vocabulary["<|im_end|>"],
        "tts_pad_token_id": vocabulary["<tts_pad>"],
        "tts_bos_token_id": vocabulary["<tts_text_bos>"],
        "tts_eos_token_id": vocabulary["<tts_text_eod>"],
    }


def _generation_config() -> Config:
    sampling = {"temperature": 0.9, "top_p": 1.0, "top_k": 50}
    nested = {f"subtalker_{name}": value for name, value in sampling.items()}
    return {
        "do_sample": True,
        "repetition_penalty": 1.05,
        **sampling,
        "subtalker_dosample": True,
        **nested,
        "max_new_tokens": 8192,
    }


def _write_codec(out: Path, sizes: Sizes, random: torch.Generator) -> None:
    from qwen_tts.core.tokenizer_12hz.configuration_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Config
    from qwen_tts.core.tokenizer_12hz.modeling_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Model
    from transformers import EncodecFeatureExtractor

    config = _codec_config(sizes)
    codec = Qwen3TTSTokenizerV2Model(Qwen3TTSTokenizerV2Config(**_arguments(config))).eval()
    _randomise(codec, random, lambda weight: max(weight[0].numel(), 1) ** -0.5)
    _fill_codebooks(codec, random)
    _make_audible(codec.decoder, sizes, random)
    _write_weights(out, codec, config | {"dtype": "float32"})
    EncodecFeatureExtractor(feature_size=1, sampling_rate=24000, padding_value=0.0).save_pretrained(out)


def _codec_config(sizes: Sizes) -> Config:
    encoder = {
        "sampling_rate": 24000,
        "frame_rate": 12.5,
        "audio_channels": 1,
        "num_residual_layers": 1,
        "upsampling_ratios": [8, 6, 5, 4],
        "codebook_size": sizes.codebook,
        "num_semantic_quantizers": 1,
        "sliding_window": 250,
        "max_position_embeddings": 8000,
        "use_cache": False,
        "use_streaming": False,
    }
    decoder = {
        "codebook_size": sizes.codebook,
        "num_quantizers": GROUPS,
        "num_semantic_quantizers": 1,
        "upsample_rates": [8, 5, 4, 3],
        "upsampling_ratios": [2, 2],
        "sliding_window": 72,
        "max_position_embeddings": 8000,
    }
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_config": encoder | sizes.encoder,
        "decoder_config": decoder | sizes.decoder,
        "encoder_valid_num_quantizers": GROUPS,
        "input_sample_rate": 24000,
        "output_sample_rate": 24000,
        "decode_upsample_rate": 1920,
        "encode_downsample_rate": 1920,
    }


@torch.no_grad()
def _randomise(module: nn.Module, random: torch.Generator, spread: Any) -> None:
    """Draw every matrix anew, so that the weights don't hang on what the library's own start values are."""
    for name, weight in module.named_parameters():
        if weight.dim() > 1:
            weight.copy_(torch.randn(weight.shape, generator=random) * spread(weight))
        elif name.endswith("bias"):
            weight.zero_()


@torch.no_grad()
def _fill_codebooks(codec: nn.Module, random: torch.Generator) -> None:
    """Fill the codebooks, which start as zeros: every code would be 0."""
    tensors = [*codec.named_parameters(), *codec.named_buffers()]
    for name, codebook in tensors:
        if name.endswith(("embed_sum", "embedding_sum")):
            codebook.copy_(torch.randn(codebook.shape, generator=random))


@torch.no_grad()
def _make_audible(decoder: Any, sizes: Sizes, random: torch.Generator) -> None:
    """Scale the last layer until random codes sound as loud as speech, without clipping."""
    last = decoder.decoder[-1].conv
    heard: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda _module, _input, output: heard.append(output))
    decoder(torch.randint(0, sizes.codebook, (1, GROUPS, 25), generator=random))
    hook.remove()
    last.weight.mul_(0.15 / heard[0].std())


def _write_weights(out: Path, model: Any, config: Config) -> None:
    """Write the weights, and our own config: the one that `save_pretrained` writes can't be loaded again."""
    model.save_pretrained(out)
    _write_json(out / "config.json", config)


def _arguments(config: Config) -> Config:
    return {name: value for name, value in config.items() if name != "model_type"}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", choices=["tiny", "published"], default="tiny")
    given = parser.parse_args()
    print(build(given.out, {"tiny": TINY, "published": PUBLISHED}[given.sizes]))
