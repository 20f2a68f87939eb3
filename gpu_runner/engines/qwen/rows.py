"""The host's state of a part of a text during its synthesis."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.sampling import Sampling
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.text import parts_of


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a text as tokens, and the pause after it in seconds."""

    text: str
    tokens: list[int]
    pause: float


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text in parts, and the transcript of its voice's reference (empty unless its audio is used too)."""

    parts: list[TextPart]
    transcript: list[int]


def tokenize(text: str, language: str, prompt: QwenPrompt, tokens_of: Callable[[str], list[int]]) -> TokenizedText:
    """Cut a cleaned text into parts and tokenize them; needs no device, so it can run in any thread."""
    transcript = tokens_of(prompt.transcript) if prompt.codes is not None else []
    parts = [TextPart(part.text, tokens_of(part.text), part.pause) for part in parts_of(text, language)]
    return TokenizedText(parts, transcript)


@dataclass(slots=True, eq=False)
class Row:
    """A part of an utterance; `codes` are the frames that it has generated, 16 codes each."""

    job_id: str
    part: int
    tokens: list[int]  # of the transcript and the part
    language: str
    prompt: QwenPrompt
    sampling: Sampling
    seed: int
    cap: int  # frames at most
    codes: list[list[int]] = field(default_factory=list)
    slot: int | None = None  # see `generator.Generator`
    launched: int = 0  # frames of it that have been started on the device
    prefix: int = 0  # positions that it has read before those
    state: int | None = None  # see `decoding.Decoder`
    decoded: int = 0  # frames that have been handed to the codec
    decoding: int = 0  # chunks of them whose samples are pending
    ended: bool = False
    was_capped: bool = False

    @property
    def is_decoded(self) -> bool:
        """Whether all of its samples have been decoded."""
        return self.ended and self.decoded == len(self.codes) and self.decoding == 0

    def numbers(self, groups: int) -> Tensor:
        """Generate the random numbers of all frames that it may have: [cap, groups] float32 in [0, 1).

        On the CPU, where they are the same on every machine.  Without sampling they are 0, which chooses the first
        of equals.
        """
        numbers = torch.rand(self.cap, groups, generator=torch.Generator().manual_seed(self.seed))
        first, others = self.sampling.is_drawn
        return numbers * torch.tensor([float(first), *[float(others)] * (groups - 1)])
