"""The loaded model: modules of `qwen_tts`, and the properties that the engine uses.

The library's modules create voice prompts and embed text. Its `generate` is not used, because it has one set of
options, one seed and one length for a whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.codec import Codec
from gpu_runner.engines.qwen.network.kernels import Kernels, kernels_for
from gpu_runner.engines.qwen.network.network import Network, pack_network
from gpu_runner.engines.qwen.network.prefill import to_device
from gpu_runner.engines.qwen.network.sampling import Sampling
from gpu_runner.engines.qwen.text import Cleaner

SAMPLE_RATE = 24_000  # Hz, of references and of generated audio
FRAME_SAMPLES = 1_920
FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES  # 12.5
LONGEST_SEQUENCE = 2_048  # tokens of a prompt and its audio: a minute of reference, and the longest part of a text
ROLE_TOKENS = 3  # <|im_start|> assistant \n


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of the model that a voice prompt belongs to."""

    model: str
    revision: str
    codec_dtype: str
    package: str


@dataclass(frozen=True)
class Model:
    """A model on its device.

    `pretrained` is a `Qwen3TTSForConditionalGeneration`, `speech_tokenizer` a `Qwen3TTSTokenizer`. `tokenizer` is
    the tokenizer of the text.
    """

    pretrained: Any
    speech_tokenizer: Any
    tokenizer: Any
    defaults: Sampling
    identity: Identity
    dtype: torch.dtype
    int8: bool = False

    @cached_property
    def talker(self) -> Any:
        """The generating network: a transformer over frames, and a smaller one over the codes of a frame."""
        return self.pretrained.talker

    @cached_property
    def kernels(self) -> Kernels:
        """The kernels of the network and the codec."""
        return kernels_for(self.device)

    @cached_property
    def network(self) -> Network:
        """Talker and code predictor, packed."""
        return pack_network(self.talker, LONGEST_SEQUENCE, self.kernels)

    @cached_property
    def codec(self) -> Codec:
        """The codec's decoder, from frames of codes to samples."""
        return Codec(self.speech_tokenizer.model.decoder, self.kernels)

    @cached_property
    def device(self) -> torch.device:
        """The device of the talker."""
        return torch.device(self.talker.device)

    @cached_property
    def config(self) -> Any:
        """The published configuration of the talker."""
        return self.pretrained.config.talker_config

    @cached_property
    def languages(self) -> dict[str, int]:
        """The ids of the languages that the model was trained on, by lower-case name."""
        return {str(name).lower(): int(number) for name, number in self.config.codec_language_id.items()}

    @cached_property
    def clean(self) -> Cleaner:
        """The cleaner that removes control tokens of this model's tokenizer from a text."""
        return Cleaner(self.tokenizer.get_added_vocab())

    @cached_property
    def role(self) -> list[int]:
        """The tokens before every text."""
        return [int(token) for token in self.tokenizer("<|im_start|>assistant\n")["input_ids"]]

    @cached_property
    def reproducible_as(self) -> str | None:
        """A hash of the model, its defaults, torch and the kind of device: see `Reproducible`. None below float32.

        In lower precisions a batch of another size rounds so differently that another code is soon chosen. From
        there on the audio differs.
        """
        if self.dtype != torch.float32 or self.int8:
            return None
        on_gpu, instructions = self.device.type == "cuda", torch.backends.cpu.get_cpu_capability()
        device = torch.cuda.get_device_name(self.device) if on_gpu else instructions
        depends_on = (self.identity, self.defaults, torch.__version__, device)
        return f"qwen-{blake2b(repr(depends_on).encode(), digest_size=8).hexdigest()}"

    def tokens(self, text: str) -> list[int]:
        """Tokenize a text as plain text: control tokens in it are split into ordinary tokens."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [int(token) for token in ids]

    def embed_text(self, tokens: Sequence[int]) -> Tensor:
        """Embed T tokens of text: [1, T, D]."""
        ids = self.to_device(torch.tensor([list(tokens)], dtype=torch.long))
        embeds = self.talker.get_text_embeddings()(ids).to(self.dtype)
        return self.talker.text_projection(embeds)  # type: ignore[no-any-return]

    def embed_tags(self, ids: Sequence[int]) -> Tensor:
        """Embed T ids of the talker's own vocabulary: [1, T, D]."""
        tags = self.to_device(torch.tensor([list(ids)], dtype=torch.long))
        return self.talker.get_input_embeddings()(tags)  # type: ignore[no-any-return]

    def to_device(self, tensor: Tensor) -> Tensor:
        """Copy from the CPU without waiting for the device."""
        return to_device(tensor, self.device)
