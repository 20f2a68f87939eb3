"""What the talker reads before its first frame.

The layout is the one that the published models were trained on, and that `qwen_tts` lays out for voice cloning: the
role, tags for language and speaker, then text and speech side by side, one token of text a frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_runner.engines.qwen.model import Model
from gpu_runner.engines.qwen.prompts import QwenPrompt


@dataclass(frozen=True, slots=True)
class Prefix:
    """`embeds`, [T, D], is read at once; `feed`, [S, D], is added to the frames that follow, one row to each.

    The last row of `feed` stands for "no more text" and goes with every frame after it.
    """

    embeds: Tensor
    feed: Tensor


def build(model: Model, text: str, language: str, prompt: QwenPrompt) -> Prefix:
    """Lay out a text to be spoken in the voice of a prompt."""
    config = model.config
    start, end, pad = model.embed_text(_marks(model)).chunk(3, dim=1)  # each [1, 1, D]
    tags = torch.cat(
        [
            model.embed_tags(_language_tags(model, language)),
            prompt.speaker.to(model.device, start.dtype).view(1, 1, -1),
            model.embed_tags([config.codec_pad_id, config.codec_bos_id]),
        ],
        dim=1,
    )  # [1, C, D]
    beside = torch.cat([pad.expand(-1, tags.shape[1] - 2, -1), start], dim=1)  # [1, C - 1, D]
    head = torch.cat([model.embed_text(model.role), beside + tags[:, :-1]], dim=1)
    words = torch.cat([model.embed_text(_words(model, text, prompt)), end], dim=1)  # [1, W + 1, D]
    speech = tags[:, -1:]  # [1, 1, D]: where speech begins
    if prompt.codes is not None:
        heard = model.embed_frames(prompt.codes.to(model.device))[None]  # [1, F, D]
        speech = torch.cat([speech, heard], dim=1)
    length = speech.shape[1]
    missing = max(0, length - words.shape[1])
    words = torch.cat([words, pad.expand(-1, missing, -1)], dim=1)
    embeds = torch.cat([head, words[:, :length] + speech], dim=1)
    return Prefix(embeds[0], torch.cat([words[:, length:], pad], dim=1)[0])


def _marks(model: Model) -> list[int]:
    config = model.network.config
    return [config.tts_bos_token_id, config.tts_eos_token_id, config.tts_pad_token_id]


def _language_tags(model: Model, language: str) -> list[int]:
    config = model.config
    known = model.languages.get(language.lower())
    if known is None:  # Auto
        return [config.codec_nothink_id, config.codec_think_bos_id, config.codec_think_eos_id]
    return [config.codec_think_id, config.codec_think_bos_id, known, config.codec_think_eos_id]


def _words(model: Model, text: str, prompt: QwenPrompt) -> list[int]:
    """Give the tokens of the text, after those of what the reference says when its speech is there too."""
    said = model.tokens(prompt.transcript) if prompt.codes is not None else []
    return said + model.tokens(text)
