"""The codec's decoder in chunks: what it sounds like is what the whole sounds like."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gpu_runner.engines import Utterance
from gpu_runner.engines.qwen.checkpoint.model import FRAME_SAMPLES, Model
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.prompts import QwenPrompt
from tests.qwen.conftest import greedy
from tests.support.engines import synthesize

FRAMES = 100  # more than the window of 72


@pytest.fixture(scope="module")
def codes(model: Model) -> torch.Tensor:
    shape = (2, FRAMES, model.codec.groups)
    return torch.randint(0, model.codec.codebook_size, shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def whole(model: Model, codes: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        wave: torch.Tensor = model.speech_tokenizer.model.decoder(codes.transpose(1, 2))[:, 0]
    return wave


def noise(mine: torch.Tensor, expected: torch.Tensor) -> float:
    """The power of what differs, in dB of what is expected."""
    return float(10 * torch.log10((mine - expected).pow(2).mean() / expected.pow(2).mean()))


def decode(model: Model, codes: torch.Tensor, chunks: list[int]) -> torch.Tensor:
    position = torch.zeros(len(codes), dtype=torch.long)
    state, waves = model.codec.start(len(codes)), []
    with torch.inference_mode():
        for chunk in codes.split(chunks, dim=1):
            wave, state = model.codec.decode(chunk, state, position)
            waves.append(wave)
            position = position + chunk.shape[1]
    return torch.cat(waves, dim=1)


@pytest.mark.parametrize("chunks", [[FRAMES], [4] * 25, [1, 60, 3, 36]])
def test_chunks_equal_library(model: Model, codes: torch.Tensor, whole: torch.Tensor, chunks: list[int]) -> None:
    mine = decode(model, codes, chunks)
    assert mine.shape == (2, FRAMES * FRAME_SAMPLES)
    assert noise(mine, whole) < -60


@pytest.mark.slow
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.sets(st.integers(1, FRAMES - 1), max_size=12))
def test_any_chunks_equal_library(model: Model, codes: torch.Tensor, whole: torch.Tensor, cuts: set[int]) -> None:
    bounds = [0, *sorted(cuts), FRAMES]
    chunks = [end - start for start, end in itertools.pairwise(bounds)]
    assert noise(decode(model, codes, chunks), whole) < -60


def test_short_context_is_audible(model: Model, codes: torch.Tensor, whole: torch.Tensor) -> None:
    with torch.inference_mode():
        short = model.speech_tokenizer.model.decoder.chunked_decode(codes.transpose(1, 2), 40, 25)[:, 0]
    assert noise(short, whole) > -60


@pytest.mark.parametrize("frames", [1, 16, 80])
def test_remember_equals_decoding(model: Model, codes: torch.Tensor, frames: int) -> None:
    after = slice(frames, frames + 20)
    decoder = model.codec
    with torch.inference_mode():
        _, state = model.codec.decode(codes[:1, :frames], model.codec.start(1), torch.zeros(1, dtype=torch.long))
        expected, _ = decoder.decode(codes[:1, after], state, torch.tensor([frames]))
        remembered = decoder.remember(codes[0, :frames])[None]
        mine, _ = decoder.decode(codes[:1, after], remembered, torch.tensor([frames]))
    assert noise(mine, expected) < -60


def test_rows_at_different_positions(model: Model, codes: torch.Tensor, whole: torch.Tensor) -> None:
    decoder = model.codec
    with torch.inference_mode():
        old = decoder.remember(codes[0, :90])
        states, positions = torch.stack([old, decoder.start(1)[0]]), torch.tensor([90, 0])
        both, _ = decoder.decode(torch.stack([codes[0, 90:94], codes[1, :4]]), states, positions)
    assert noise(both[0], whole[0, 90 * FRAME_SAMPLES : 94 * FRAME_SAMPLES]) < -60
    assert noise(both[1], whole[1, : 4 * FRAME_SAMPLES]) < -60


def test_invalid_codes_are_clamped(model: Model) -> None:
    wild = torch.full((1, 4, model.codec.groups), 10**6)
    with torch.inference_mode():
        wave, _ = model.codec.decode(wild, model.codec.start(1), torch.zeros(1, dtype=torch.long))
    assert wave.isfinite().all()


@pytest.mark.parametrize("restored", [False, True])
def test_prompt_contains_codec_state(
    model: Model, engine: QwenEngine, in_context: QwenPrompt, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    prompt = engine.restore_prompt(in_context.to_json()) if restored else in_context

    def remember(codes: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the thread of the engine has no time for it")

    with torch.inference_mode():
        assert prompt.codes is not None
        expected = model.codec.remember(prompt.codes)
        monkeypatch.setattr(model.codec, "remember", remember)
        assert prompt.state is not None
        assert torch.equal(prompt.state, expected)
    assert len(synthesize(engine, Utterance("a", "Hi.", prompt, greedy()))["a"].samples) > 0
