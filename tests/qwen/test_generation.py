"""Frames: the same as the library's, the same alone and in company, and an end to each."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_runner.engines.qwen.generation import LEAST_FRAMES, End, Flight, Landed, Row
from gpu_runner.engines.qwen.model import Model
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.sampling import Sampling

GREEDY = Sampling(temperature=0, top_k=50, top_p=1.0, repetition_penalty=1.05)
DRAWN = Sampling(temperature=0.9, top_k=50, top_p=0.95, repetition_penalty=1.05)
LONG = "A text with many more words than the reference has frames, so that it is read while it is spoken."


def row(prompt: QwenPrompt, text: str = "Hello.", **more: Any) -> Row:
    fields = {"job_id": text, "part": 0, "language": "Auto", "sampling": GREEDY, "seed": 1, "cap": 12}
    return Row(text=text, prompt=prompt, **{**fields, **more})


@torch.inference_mode()
def fly(model: Model, *rows: Row, later: tuple[Row, ...] = ()) -> list[Landed]:
    flight, landed = Flight(model), []
    for one in rows:
        flight.board(one)
    for one in later:
        landed += flight.advance()
        flight.board(one)
    while flight.rows:
        landed += flight.advance()
    return landed


@pytest.fixture(scope="module")
def library(checkpoint: Path) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        from qwen_tts import Qwen3TTSModel
    return Qwen3TTSModel.from_pretrained(str(checkpoint))


def codes_of_library(library: Any, prompt: QwenPrompt, text: str, language: str, frames: int) -> list[list[int]]:
    from qwen_tts import VoiceClonePromptItem

    in_context = prompt.codes is not None
    item = VoiceClonePromptItem(prompt.codes, prompt.speaker, not in_context, in_context, prompt.transcript or None)
    heard: list[torch.Tensor] = []
    decode = library.model.speech_tokenizer.decode

    def listening(codes: Any) -> Any:
        heard.append(codes[0]["audio_codes"])
        return decode(codes)

    library.model.speech_tokenizer.decode = listening
    try:
        library.generate_voice_clone(
            text=text,
            language=language,
            voice_clone_prompt=[item],
            do_sample=False,
            subtalker_dosample=False,
            max_new_tokens=frames + 1,
        )
    finally:
        del library.model.speech_tokenizer.decode
    return heard[0][0 if prompt.codes is None else len(prompt.codes) :].tolist()


@pytest.mark.parametrize("mode", ["in_context", "x_vector"])
@pytest.mark.parametrize(("text", "language"), [("Hi", "Auto"), ("Guten Tag.", "German"), (LONG, "English")])
def test_greedy_codes_are_those_of_the_library(
    model: Model, library: Any, request: pytest.FixtureRequest, mode: str, text: str, language: str
) -> None:
    prompt: QwenPrompt = request.getfixturevalue(mode)
    mine = row(prompt, text, language=language)
    fly(model, mine)
    assert mine.frames == codes_of_library(library, prompt, text, language, len(mine.frames))
    assert len(mine.frames) >= LEAST_FRAMES


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_company_changes_nothing(
    model: Model, in_context: QwenPrompt, x_vector: QwenPrompt, sampling: Sampling
) -> None:
    cases: list[tuple[QwenPrompt, str, dict[str, Any]]] = [
        (in_context, "One.", {"language": "English", "cap": 5}),
        (x_vector, "二つ目です。", {"language": "Japanese", "cap": 14}),
        (x_vector, LONG, {"cap": 9}),
        (in_context, "Four, four.", {"cap": 12, "seed": 9}),
    ]
    company = [row(prompt, text, sampling=sampling, **more) for prompt, text, more in cases]
    fly(model, *company[:2], later=tuple(company[2:]))  # some board in flight, and they leave at different times
    for (prompt, text, more), together in zip(cases, company, strict=True):
        alone = row(prompt, text, sampling=sampling, **more)
        fly(model, alone)
        assert together.frames == alone.frames
    assert len({str(one.frames[:5]) for one in company}) == len(company)


def test_a_seed_decides_and_nothing_else_does(model: Model, x_vector: QwenPrompt) -> None:
    rows = [row(x_vector, "Same.", sampling=DRAWN, seed=seed) for seed in (5, 5, 6)]
    fly(model, *rows)
    assert rows[0].frames == rows[1].frames
    assert rows[0].frames != rows[2].frames


def test_each_row_has_its_own_way_of_choosing(model: Model, x_vector: QwenPrompt) -> None:
    greedy, warm, narrow = (
        row(x_vector, "Same.", sampling=GREEDY),
        row(x_vector, "Same.", sampling=DRAWN),
        row(x_vector, "Same.", sampling=Sampling(0.9, 1, 1.0, 1.05)),
    )
    fly(model, greedy, warm, narrow)
    assert narrow.frames == greedy.frames
    assert warm.frames != greedy.frames


def test_the_end_is_not_before_two_frames(
    model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = model.talker.codec_head

    def eager_to_end(hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = head.__class__.forward(head, hidden)
        logits[:, model.end] = 1000
        return logits

    monkeypatch.setattr(head, "forward", eager_to_end)
    landed = fly(model, row(x_vector))
    assert [(one.end, len(one.row.frames)) for one in landed] == [(End.SPOKEN, LEAST_FRAMES)]


def test_a_cap_ends_what_does_not_end(model: Model, x_vector: QwenPrompt) -> None:
    model_never_ends = row(x_vector, cap=3)
    assert [(one.end, len(one.row.frames)) for one in fly(model, model_never_ends)] == [(End.CAPPED, 3)]


def test_numbers_that_are_none_end_only_their_own_row(model: Model, x_vector: QwenPrompt) -> None:
    hostile = QwenPrompt(x_vector.identity, "", torch.full_like(x_vector.speaker, torch.nan), None)
    good = row(x_vector, "Good.")
    ends = {one.row.text: one.end for one in fly(model, row(hostile, "Bad."), good)}
    assert ends["Bad."] is End.BROKEN
    assert ends["Good."] is End.CAPPED
    alone = row(x_vector, "Good.")
    fly(model, alone)
    assert good.frames == alone.frames


def test_audio_is_that_of_the_library(model: Model, library: Any, in_context: QwenPrompt) -> None:
    assert in_context.codes is not None
    codes = torch.randint(0, model.codebook_size, (20, model.groups), generator=torch.Generator().manual_seed(1))
    whole, _ = library.model.speech_tokenizer.decode([{"audio_codes": torch.cat([in_context.codes, codes])}])
    mine = model.decode(codes, in_context.codes)
    assert torch.equal(mine, torch.from_numpy(whole[0])[len(in_context.codes) * 1920 :])
    assert len(mine) == 20 * 1920


def test_pieces_are_decoded_as_the_whole_would_be(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.randint(0, model.codebook_size, (130, model.groups), generator=torch.Generator().manual_seed(1))
    whole = model.decode(codes, codes[:0])
    monkeypatch.setattr("gpu_runner.engines.qwen.model._DECODE_CHUNKS", (40,))
    pieces = model.decode(codes, codes[:0])
    noise = (whole - pieces).pow(2).mean().sqrt() / whole.pow(2).mean().sqrt()
    assert len(pieces) == len(whole)
    assert noise < 1e-3
