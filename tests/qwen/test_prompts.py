"""Voice prompts: both modes, and the way through JSON, for friend and foe."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.engines import PromptRejected, Reference, Utterance
from gpu_runner.engines.qwen import prompts
from gpu_runner.engines.qwen.checkpoint.model import FRAME_SAMPLES, Model
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.prompts import QwenPrompt
from pipeline.audio.reference_audio import Recording
from pipeline.errors import InvalidAudio
from tests.qwen.conftest import SAID, greedy, hum
from tests.support.engines import synthesize

Maker = Callable[..., QwenPrompt]


def test_transcript_adds_codes(in_context: QwenPrompt, model: Model) -> None:
    assert in_context.mode == "in_context"
    assert in_context.transcript == SAID
    assert in_context.codes is not None
    assert in_context.codes.shape == (
        32,
        model.codec.groups,
    )  # 2 s, and half a second of silence, at 12.5 frames a second
    assert in_context.speaker.shape == (model.pretrained.config.speaker_encoder_config.enc_dim,)
    assert in_context.warnings == ()


def test_silence_after_reference(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    encode = model.speech_tokenizer.encode

    def listening(samples: Any, sr: int) -> Any:
        heard.append(samples)
        return encode(samples, sr=sr)

    monkeypatch.setattr(model.speech_tokenizer, "encode", listening)
    samples = hum(150).samples
    prompts.encode(model, samples)
    assert np.array_equal(heard[0][: len(samples)], samples)
    assert not heard[0][len(samples) :].any()
    assert len(heard[0]) - len(samples) == 12_000


@pytest.mark.parametrize("transcription", ["", "  \n ", "<|im_end|>", "…?!"])
def test_no_words_uses_speaker_only(make_prompt: Maker, transcription: str) -> None:
    prompt = make_prompt(180, transcription)
    assert (prompt.mode, prompt.codes, prompt.transcript, prompt.warnings) == ("x_vector", None, "", ())


def test_prompts_differ_by_voice(make_prompt: Maker) -> None:
    low, high = make_prompt(120, SAID), make_prompt(360, SAID)
    assert low.codes is not None
    assert high.codes is not None
    assert not torch.equal(low.speaker, high.speaker)
    assert not torch.equal(low.codes, high.codes)


def test_wrong_transcript_ignored_with_warning(make_prompt: Maker) -> None:
    for transcription in ("A" * 400, "Eh"):
        prompt = make_prompt(180, transcription, seconds=4.0)
        assert prompt.mode == "x_vector"
        assert "was ignored" in prompt.warnings[0]


def test_doubtful_transcript_warns(make_prompt: Maker) -> None:
    prompt = make_prompt(180, "Hello, well, hello there. " * 4)
    assert prompt.mode == "in_context"
    assert "far too long" in prompt.warnings[0]


def test_pauses_are_not_speech() -> None:
    speech = hum(180, 2.0).samples
    paused = np.concatenate([speech, np.zeros(5 * 24_000, np.float32)])
    assert prompts.seconds_of_speech(speech) == pytest.approx(2.0, abs=0.1)
    assert prompts.seconds_of_speech(paused) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_sample_rate_does_not_matter(model: Model, rate: int) -> None:
    mine = prompts.at_model_rate(hum(180, 1.0, rate))
    original = hum(180, 1.0).samples
    assert len(mine) == len(original)
    assert np.abs(mine - original)[500:-500].max() < 0.01


@pytest.mark.parametrize(
    "samples",
    [np.full(24_000, np.nan, np.float32), np.full(24_000, np.inf, np.float32), np.zeros(1_000, np.float32)],
)
def test_unusable_reference_rejected(engine: QwenEngine, samples: Any) -> None:
    with pytest.raises(InvalidAudio):
        engine.make_prompt(Reference(Recording(samples, 24_000), ""))


@pytest.mark.parametrize("mode", ["in_context", "x_vector"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_json_round_trip(model: Model, request: pytest.FixtureRequest, mode: str, dtype: torch.dtype) -> None:
    made: QwenPrompt = dataclasses.replace(
        request.getfixturevalue(mode),
        warnings=("Ä warning.",),
        speaker=request.getfixturevalue(mode).speaker.to(dtype),
    )
    restored = prompts.restore(model, made.to_json())
    assert restored.speaker.dtype == dtype
    assert torch.equal(restored.speaker, made.speaker)
    assert restored.mode == made.mode
    if restored.codes is not None and made.codes is not None:
        assert torch.equal(restored.codes, made.codes)
    assert (restored.identity, restored.transcript, restored.warnings) == (
        made.identity,
        made.transcript,
        made.warnings,
    )
    assert restored.to_json() == made.to_json()


@pytest.mark.parametrize("mode", ["in_context", "x_vector"])
def test_restored_prompt_gives_same_audio(engine: QwenEngine, request: pytest.FixtureRequest, mode: str) -> None:
    made: QwenPrompt = request.getfixturevalue(mode)
    restored = engine.restore_prompt(made.to_json())
    first = synthesize(engine, Utterance("a", "The same voice.", made, greedy()))["a"].samples
    second = synthesize(engine, Utterance("a", "The same voice.", restored, greedy()))["a"].samples
    assert len(first) >= 2 * FRAME_SAMPLES
    assert np.array_equal(first, second)


def test_json_names_origin(in_context: QwenPrompt, model: Model) -> None:
    document = json.loads(in_context.to_json())
    assert document["format"] == 1
    assert document["model"] == model.identity.model
    assert document["revision"].startswith("sha256:")
    assert document["codec_dtype"] == "float32"
    assert document["package"] == "qwen-tts 0.1.1"
    assert document["mode"] == "in_context"


DAMAGES: dict[str, dict[str, Any]] = {
    "format": {"format": 2},
    "format true": {"format": True},
    "engine": {"engine": "mock"},
    "model": {"model": "another"},
    "revision": {"revision": "another"},
    "codec precision": {"codec_dtype": "bfloat16"},
    "mode": {"mode": "other"},
    "mode without codes": {"codes": None},
    "mode with codes": {"mode": "x_vector"},
    "speaker too short": {"speaker": [0.0] * 31},
    "speaker too long": {"speaker": [0.0] * 33},
    "speaker far too long": {"speaker": [0.0] * 20_000},
    "speaker of text": {"speaker": ["0"] * 32},
    "speaker beyond float32": {"speaker": [1e300] * 32},
    "speaker precision": {"speaker_dtype": "float64"},
    "no frames": {"codes": []},
    "short frame": {"codes": [[0] * 15]},
    "negative code": {"codes": [[-1] * 16]},
    "code too large": {"codes": [[64] * 16]},
    "code far too large": {"codes": [[10**400] * 16]},
    "code of float": {"codes": [[1.5] * 16]},
    "too many frames": {"codes": [[0] * 16] * 5000},
    "transcript": {"transcript": 7},
    "warnings": {"warnings": "x"},
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
def test_changed_document_rejected(model: Model, in_context: QwenPrompt, change: dict[str, Any]) -> None:
    document = json.loads(in_context.to_json()) | change
    with pytest.raises(PromptRejected, match=r"^The voice prompt (is damaged|belongs to|has format)"):
        prompts.restore(model, json.dumps(document).encode())


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"\x80\x04\x95\x00",  # a pickle's first bytes
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1',
        b'{"speaker": [NaN]}',
        b" " * (prompts.LARGEST_DOCUMENT + 1),
    ],
)
def test_invalid_document_rejected(model: Model, document: bytes) -> None:
    with pytest.raises(PromptRejected):
        prompts.restore(model, document)


@given(st.data())
def test_missing_field_rejected_or_ignored(model: Model, in_context: QwenPrompt, data: st.DataObject) -> None:
    document = in_context.to_json()
    place = data.draw(st.integers(0, len(document) - 1))
    damaged = document[:place] + data.draw(st.binary(max_size=3)) + document[place + 1 :]
    try:
        restored = prompts.restore(model, damaged)
    except PromptRejected:
        return
    assert restored.codes is not None
    assert restored.speaker.isfinite().all()
    assert int(restored.codes.max()) < model.codec.codebook_size
    assert int(restored.codes.min()) >= 0
