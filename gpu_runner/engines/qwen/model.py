"""The loaded model: the real modules of `qwen_tts`, and what the engine has to know of them.

The modules are driven from here, layer by layer of meaning (embed, talk, predict, decode), and not through the
library's `generate`: that has one set of options, one seed and one length for a whole batch, and keeps state of the
running batch in the module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gpu_runner.engines.qwen.failures import OutOfMemory, told_apart
from gpu_runner.engines.qwen.sampling import Sampling
from gpu_runner.engines.qwen.text import Cleaner

SAMPLE_RATE = 24_000  # Hz, of references and of speech
FRAME_SAMPLES = 1_920
FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES  # 12.5
SPECIAL_CODES = 1_024  # ids above the codes in the talker's vocabulary, none of them speech
ROLE_TOKENS = 3  # <|im_start|> assistant \n

# Frames decoded at once: the published amount first, less when memory is short.
_DECODE_CHUNKS = (300, 100, 40)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a voice prompt is bound to."""

    model: str
    revision: str
    codec_dtype: str
    package: str


@dataclass(frozen=True)
class Model:
    """A model on its device.

    `network` is a `Qwen3TTSForConditionalGeneration`, `codec` a `Qwen3TTSTokenizer`, `tokenizer` that of the text.
    """

    network: Any
    codec: Any
    tokenizer: Any
    defaults: Sampling
    identity: Identity
    dtype: torch.dtype

    @cached_property
    def talker(self) -> Any:
        """The network that speaks: a transformer over frames, and a smaller one over the codes of a frame."""
        return self.network.talker

    @cached_property
    def device(self) -> torch.device:
        """Where the talker is."""
        return torch.device(self.talker.device)

    @cached_property
    def batch_invariant(self) -> bool:
        """Whether a row's numbers are the same whatever the size of its batch, for all that choosing can tell.

        The kernels of a GPU add up in another order for another size, and in bfloat16 that decides between codes.
        """
        return self.device.type == "cpu" and self.dtype == torch.float32

    @cached_property
    def config(self) -> Any:
        """The published configuration of the talker."""
        return self.network.config.talker_config

    @cached_property
    def end(self) -> int:
        """The id, in place of a frame's first code, that ends the speech."""
        return int(self.config.codec_eos_token_id)

    @cached_property
    def never(self) -> Tensor:
        """Which ids of the talker's vocabulary are no speech and don't end it either: bool, [V]."""
        size = int(self.config.vocab_size)
        ids = torch.arange(size, device=self.device)
        return (ids >= size - SPECIAL_CODES) & (ids != self.end)

    @cached_property
    def groups(self) -> int:
        """Codes a frame."""
        return int(self.config.num_code_groups)

    @cached_property
    def codebook_size(self) -> int:
        """A code is less than that."""
        return int(self.talker.code_predictor.config.vocab_size)

    @cached_property
    def speaker_size(self) -> int:
        """Numbers that describe a speaker."""
        return int(self.network.config.speaker_encoder_config.enc_dim)

    @cached_property
    def languages(self) -> dict[str, int]:
        """The ids of the languages that the model has been taught, by lower-case name."""
        return {str(name).lower(): int(number) for name, number in self.config.codec_language_id.items()}

    @cached_property
    def clean(self) -> Cleaner:
        """What makes a text harmless for this model's tokenizer."""
        return Cleaner(self.tokenizer.get_added_vocab())

    @cached_property
    def role(self) -> list[int]:
        """The tokens before every text."""
        return [int(token) for token in self.tokenizer("<|im_start|>assistant\n")["input_ids"]]

    def tokens(self, text: str) -> list[int]:
        """Read a text as words only: what looks like a control token is spelled out."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [int(token) for token in ids]

    def embed_text(self, tokens: Sequence[int]) -> Tensor:
        """Embed T tokens of text: [1, T, D]."""
        ids = torch.tensor([list(tokens)], dtype=torch.long, device=self.device)
        return self.talker.text_projection(self.talker.get_text_embeddings()(ids))  # type: ignore[no-any-return]

    def embed_tags(self, ids: Sequence[int]) -> Tensor:
        """Embed T ids of the talker's own vocabulary: [1, T, D]."""
        tags = torch.tensor([list(ids)], dtype=torch.long, device=self.device)
        return self.talker.get_input_embeddings()(tags)  # type: ignore[no-any-return]

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Embed F frames, [F, 16] codes, each as the sum of its codes' embeddings: [F, D]."""
        tables = [self.talker.get_input_embeddings(), *self.talker.code_predictor.get_input_embeddings()]
        return torch.stack([table(codes[:, group]) for group, table in enumerate(tables)], dim=1).sum(1)

    @torch.inference_mode()
    def decode(self, codes: Tensor, context: Tensor) -> Tensor:
        """Turn F frames, [F, 16] codes, into F * 1920 samples in float32 on the CPU.

        `context`, [C, 16], is what was heard before them; only as much of it is decoded as the decoder can see.

        Raises
        ------
        OutOfMemory
            There is no room, not even for short pieces.
        """
        decoder = self.codec.model.decoder
        seen = min(len(context), int(decoder.config.sliding_window))
        frames = torch.cat([context[len(context) - seen :], codes]).to(self.codec.model.device)
        for chunk in _DECODE_CHUNKS:
            samples = self._decoded(frames, chunk)
            if samples is not None:
                return samples[seen * FRAME_SAMPLES :]
        raise OutOfMemory(f"{len(frames)} frames can't be decoded")

    def _decoded(self, frames: Tensor, chunk: int) -> Tensor | None:
        decoder = self.codec.model.decoder
        try:
            with told_apart():
                # A chunk sees as far back as the decoder's window: with the library's 25 frames, seams are heard.
                waves = decoder.chunked_decode(frames.T[None], chunk, int(decoder.config.sliding_window))
                return waves[0, 0].float().cpu()  # type: ignore[no-any-return]
        except OutOfMemory:
            release_memory(self.device)
            return None


def release_memory(device: torch.device) -> None:
    """Hand what torch keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
