"""The input that the talker reads before its next frame.

The layout is the one that the published models were trained on, and that `qwen_tts` lays out for voice cloning: the
role, tags for language and speaker, then text and codes in parallel, one token of text per frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_runner.engines.qwen.model import ROLE_TOKENS, Model
from gpu_runner.engines.qwen.rows import Row


@dataclass(frozen=True, slots=True)
class Prefix:
    """`embeds`, [T, D], is read at once; `feed`, [S, D], is added to the frames fed back, one row to each.

    The last row of `feed` means "no more text" and is added to every frame after it.
    """

    embeds: Tensor
    feed: Tensor


def length_of(model: Model, row: Row) -> int:
    """Return how many tokens a row has to read before its next frame."""
    reference = 0 if row.prompt.codes is None else len(row.prompt.codes)
    # The role; the tags with the speaker and the padding; the start of speech; the frames so far.
    return ROLE_TOKENS + len(_language_tags(model, row.language)) + 2 + 1 + reference + len(row.codes)


def build(model: Model, row: Row) -> Prefix:
    """Build the input for a text in the voice of a prompt, including the row's frames so far."""
    config = model.config
    start, end, pad = model.embed_text(_marks(model)).chunk(3, dim=1)  # each [1, 1, D]
    tags = torch.cat(
        [
            model.embed_tags(_language_tags(model, row.language)),
            model.to_device(row.prompt.speaker.to(start.dtype)).view(1, 1, -1),
            model.embed_tags([config.codec_pad_id, config.codec_bos_id]),
        ],
        dim=1,
    )  # [1, C, D]
    beside = torch.cat([pad.expand(-1, tags.shape[1] - 2, -1), start], dim=1)  # [1, C - 1, D]
    head = torch.cat([model.embed_text(model.role), beside + tags[:, :-1]], dim=1)
    words = torch.cat([model.embed_text(row.tokens), end], dim=1)  # [1, W + 1, D]
    speech = tags[:, -1:]  # [1, 1, D]: the start of speech
    if row.prompt.codes is not None:
        speech = torch.cat([speech, _heard(model, row.prompt.codes)], dim=1)
    length = speech.shape[1]
    words = torch.cat([words, pad.expand(-1, max(0, length - words.shape[1]), -1)], dim=1)
    feed = torch.cat([words[:, length:], pad], dim=1)
    embeds = torch.cat([head, words[:, :length] + speech, *_spoken(model, row, feed)], dim=1)
    return Prefix(embeds[0], feed[0])


def _spoken(model: Model, row: Row, feed: Tensor) -> list[Tensor]:
    """Embed the frames that a row has generated before, with their text, as if they had been fed back."""
    if not row.codes:
        return []
    missing = max(0, len(row.codes) - feed.shape[1])
    beside = torch.cat([feed, feed[:, -1:].expand(-1, missing, -1)], dim=1)[:, : len(row.codes)]
    return [_heard(model, torch.tensor(row.codes)) + beside]


def _heard(model: Model, codes: Tensor) -> Tensor:
    return model.speech.embed_frames(model.to_device(codes))[None]  # [1, F, D]


def _marks(model: Model) -> list[int]:
    config = model.network.config
    return [config.tts_bos_token_id, config.tts_eos_token_id, config.tts_pad_token_id]


def _language_tags(model: Model, language: str) -> list[int]:
    config = model.config
    known = model.languages.get(language.lower())
    if known is None:  # Auto
        return [config.codec_nothink_id, config.codec_think_bos_id, config.codec_think_eos_id]
    return [config.codec_think_id, config.codec_think_bos_id, known, config.codec_think_eos_id]
