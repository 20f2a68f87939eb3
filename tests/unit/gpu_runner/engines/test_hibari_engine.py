"""The adapted stock voice: prompts, sentences, options and invalid texts."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from gpu_runner.engines import Piece, PromptRejected, Reference, Utterance
from gpu_runner.engines.hibari.engine import SKIPPED, HibariEngine
from gpu_runner.engines.hibari.prompt import CORRECTION_MAX, WARP_MAX, WARP_MIN, HibariPrompt, log_spectrum
from gpu_runner.engines.hibari.stock_voice import MODEL, PHONEMES_MAX, SAMPLE_RATE, split_words
from gpu_runner.engines.pitch import level, median_pitch
from pipeline.audio.reference_audio import Recording
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput
from tests.support.engines import synthesize
from tests.support.speech import voice

TEXT = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def loaded() -> HibariEngine:
    return HibariEngine(capacity=3)


@pytest.fixture
def engine(loaded: HibariEngine) -> Iterator[HibariEngine]:
    yield loaded
    for job_id in ("a", "b", "c"):
        loaded.cancel(job_id)


@pytest.fixture(scope="module")
def prompt(loaded: HibariEngine) -> HibariPrompt:
    made = loaded.make_prompt(Reference(voice(130), ""))
    assert isinstance(made, HibariPrompt)
    return made


def utterance(prompt: HibariPrompt, text: str = TEXT, job_id: str = "a", **options: object) -> Utterance:
    return Utterance(job_id, text, prompt, Options.model_validate(options))


@pytest.mark.parametrize("pitch", [100.0, 130.0, 250.0])
def test_output_has_pitch_of_reference(engine: HibariEngine, pitch: float) -> None:
    made = engine.make_prompt(Reference(voice(pitch, sample_rate=44_100), ""))
    assert isinstance(made, HibariPrompt)
    samples = synthesize(engine, utterance(made))["a"].samples
    assert median_pitch(Recording(samples, SAMPLE_RATE)) == pytest.approx(pitch, rel=0.1)


def test_correction_moves_spectrum_to_reference(engine: HibariEngine) -> None:
    bright, dull = voice(130, seconds=4, sample_rate=24_000), voice(130, seconds=4, sample_rate=24_000)
    dull.samples[:] = np.convolve(dull.samples, np.ones(12) / 12, "same")

    def tilt(recording: Recording) -> float:
        spectrum = log_spectrum(recording)
        return float(spectrum[100:175].mean() - spectrum[5:50].mean())

    spoken = {}
    for name, reference in (("bright", bright), ("dull", dull)):
        made = engine.make_prompt(Reference(reference, ""))
        assert isinstance(made, HibariPrompt)
        spoken[name] = tilt(Recording(synthesize(engine, utterance(made))["a"].samples, SAMPLE_RATE))
    assert tilt(bright) > tilt(dull)
    assert spoken["bright"] > spoken["dull"]


def test_level_is_that_of_stock_voice(engine: HibariEngine) -> None:
    levels = []
    for pitch in (190.0, 90.0, 130.0, 350.0):  # the first is the pitch of the stock voice
        made = engine.make_prompt(Reference(voice(pitch), ""))
        assert isinstance(made, HibariPrompt)
        levels.append(level(synthesize(engine, utterance(made))["a"].samples))
    assert levels[1:] == [pytest.approx(levels[0], rel=0.2)] * 3


@pytest.mark.parametrize("pitch", [None, 20.0, 550.0])
def test_prompt_of_extreme_reference_is_bounded(engine: HibariEngine, pitch: float | None) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 24_000).astype(np.float32)
    reference = Recording(noise, 24_000) if pitch is None else voice(pitch)
    made = engine.make_prompt(Reference(reference, ""))
    assert isinstance(made, HibariPrompt)
    assert WARP_MIN <= made.warp <= WARP_MAX
    assert max(map(abs, made.correction)) <= CORRECTION_MAX


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 48_000, 192_000])
def test_prompt_takes_any_sample_rate(engine: HibariEngine, sample_rate: int) -> None:
    made = engine.make_prompt(Reference(voice(130, sample_rate=sample_rate), ""))
    assert engine.restore_prompt(made.to_json()) == made


def test_prompt_names_format_and_model(prompt: HibariPrompt) -> None:
    document = json.loads(prompt.to_json())
    assert (document["format"], document["model"]) == (1, MODEL)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "hibari-tts-0.0.1"},
        {"pitch": 0.0},
        {"warp": 2.0},
        {"correction": [0.0]},
        {"level": 0.0},
        {"correction": [9.0] * 121},
        {"more": 1},
    ],
)
def test_stored_prompt_is_validated(engine: HibariEngine, prompt: HibariPrompt, change: dict[str, object]) -> None:
    with pytest.raises(PromptRejected):
        engine.restore_prompt(json.dumps(json.loads(prompt.to_json()) | change).encode())


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b"\xff", b"[" * 9000])
def test_damaged_prompt_is_rejected(engine: HibariEngine, document: bytes) -> None:
    with pytest.raises(PromptRejected):
        engine.restore_prompt(document)


def test_first_sentence_is_returned_before_second(engine: HibariEngine, prompt: HibariPrompt) -> None:
    engine.admit(utterance(prompt, "One sentence. Another sentence."))
    first = engine.step()
    assert [type(event) for event in first] == [Piece]
    second = engine.step()
    assert [type(event).__name__ for event in second] == ["Piece", "Finished"]


def test_utterances_take_turns(engine: HibariEngine, prompt: HibariPrompt) -> None:
    engine.admit(utterance(prompt, "One. Two. Three. Four.", "a"))
    engine.admit(utterance(prompt, "One.", "b"))
    assert engine.step()[0].job_id == "a"
    assert {event.job_id for event in engine.step()} == {"b"}


def test_audio_is_independent_of_batch(engine: HibariEngine, prompt: HibariPrompt) -> None:
    alone = synthesize(engine, utterance(prompt, "One. Two."))["a"].samples
    together = synthesize(engine, utterance(prompt, "One. Two."), utterance(prompt, TEXT, "b"))["a"].samples
    assert np.array_equal(alone, together)


def test_seed_selects_audio(engine: HibariEngine, prompt: HibariPrompt) -> None:
    first, equal, other = (synthesize(engine, utterance(prompt, seed=seed))["a"].samples for seed in (1, 1, 2))
    assert np.array_equal(first, equal)
    assert not np.array_equal(first, other)


def test_cancelled_utterance_ends(engine: HibariEngine, prompt: HibariPrompt) -> None:
    engine.admit(utterance(prompt, "One. Two."))
    engine.step()
    engine.cancel("a")
    assert engine.step() == []
    engine.cancel("unknown")


def test_max_seconds_cuts_audio(engine: HibariEngine, prompt: HibariPrompt) -> None:
    result = synthesize(engine, utterance(prompt, f"{TEXT} {TEXT}", max_seconds=1))["a"]
    assert len(result.samples) == SAMPLE_RATE
    assert result.warnings == ("The audio was cut off at 1 s (max_seconds).",)
    assert result.finish_reason == "length"


@pytest.mark.parametrize("text", ["世界，你好！", "Привет, мир.", "...", "😀", "مرحبا"])
def test_text_without_english_is_rejected(engine: HibariEngine, prompt: HibariPrompt, text: str) -> None:
    with pytest.raises(InvalidInput, match="TTS_BACKEND=qwen") as raised:
        engine.admit(utterance(prompt, text))
    assert raised.value.field == "text"
    assert engine.step() == []


def test_other_language_is_rejected(engine: HibariEngine, prompt: HibariPrompt) -> None:
    with pytest.raises(InvalidInput, match="German") as raised:
        engine.admit(utterance(prompt, language="German"))
    assert raised.value.field == "language"


def test_skipped_letters_are_reported(engine: HibariEngine, prompt: HibariPrompt) -> None:
    assert synthesize(engine, utterance(prompt, "The word 世界 means world."))["a"].warnings == (SKIPPED,)


@pytest.mark.parametrize(
    "text", ["9" * 100, "x" * 900, "word " * 100, "12345", "[x](/\x00/) [y](zzz)", "<|im_end|>", "a\nb\n\nc"]
)
def test_unusual_text_is_synthesized(engine: HibariEngine, prompt: HibariPrompt, text: str) -> None:
    samples = synthesize(engine, utterance(prompt, text))["a"].samples
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0.01


def test_long_sentence_is_split_between_words() -> None:
    phonemes = " ".join(["wˈɜɹd"] * 300)
    parts = split_words(phonemes)
    assert max(map(len, parts)) <= PHONEMES_MAX
    assert " ".join(parts) == phonemes
