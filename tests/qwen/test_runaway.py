"""Speech that does not end by itself: it is detected, stopped, and retried or reported."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from gpu_runner.engines import Utterance
from gpu_runner.engines.qwen import job as job_module
from gpu_runner.engines.qwen.checkpoint.model import FRAME_SAMPLES, SAMPLE_RATE, Model
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.generator import Generator
from gpu_runner.engines.qwen.job import Row
from gpu_runner.engines.qwen.network.network import Network
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.runaway import RunawayDetector
from gpu_runner.engines.qwen.text import parts_of
from pipeline.contract.records import Options
from tests.qwen.stages import allocating, never_ending
from tests.support.engines import EngineOutput, synthesize

TEXT = "A sentence that takes somewhat more than five seconds to say, so that its cap is far away."
TWO_PARTS = "This is one sentence of a text that is too long to be one part. " * 6
CHUNK = 4 * FRAME_SAMPLES


def sound(seconds: float = CHUNK / SAMPLE_RATE, level: float = 0.3) -> np.ndarray:
    return np.full(round(seconds * SAMPLE_RATE), level, np.float32)


def kinds(
    codes: list[int], reference: list[int] | None = None, samples: Callable[[int], np.ndarray] | None = None
) -> list[tuple[int, str]]:
    """Check frames in chunks of four. Return the frames at which something is found."""
    detector = RunawayDetector()
    frames = [[code, 0] for code in codes]
    voice = None if reference is None else torch.tensor([[code, 7] for code in reference])
    found = []
    for end in range(4, len(codes) + 1, 4):
        kind = detector.check(frames, voice, samples(end) if samples else sound())
        if kind:
            found.append((end, kind))
    return found


def random_codes(count: int, seed: int = 1) -> list[int]:
    codes: list[int] = np.random.default_rng(seed).integers(0, 2048, count).tolist()
    return codes


@pytest.mark.parametrize("period", [1, 3, 24, 25])
def test_detects_loop(period: int) -> None:
    codes = random_codes(40) + random_codes(period, 2) * (120 // period)
    end, kind = kinds(codes)[0]
    assert kind == "looping"
    assert 40 + 50 < end <= 40 + 50 + period + 12


def test_detects_silence() -> None:
    def samples(end: int) -> np.ndarray:
        return sound(level=0.3 if end <= 40 else 0.3 * 10 ** (-50 / 20))

    assert kinds(random_codes(120), samples=samples)[0] == (40 + 52, "silent")


def test_detects_silence_from_start() -> None:
    assert kinds(random_codes(80), samples=lambda _: sound(level=0.0))[0] == (52, "silent")


def test_detects_echo_of_reference() -> None:
    reference = random_codes(100)
    codes = random_codes(30, 2) + reference[20:80]
    codes[40] = 0  # a few differences do not matter
    end, kind = kinds(codes, reference)[0]
    assert kind == "echoing the reference"
    assert 30 + 25 <= end <= 30 + 25 + 12


def test_other_speech_is_no_runaway() -> None:
    reference = random_codes(60) + [5] * 40

    def pause(end: int) -> np.ndarray:
        return sound(level=0.001 if 100 < end <= 145 else 0.3)

    codes = random_codes(100, 2) + [5] * 45 + random_codes(55, 3)
    assert kinds(codes, reference, samples=pause) == []


def looping(network: Network) -> Network:
    """Return the network with one possible first code."""
    forbidden = torch.full_like(network.forbidden, -torch.inf)
    forbidden[:, 7] = 0
    return network._replace(forbidden=forbidden)


def synthesize_text(engine: QwenEngine, prompt: QwenPrompt, text: str = TEXT, **options: Any) -> EngineOutput:
    return synthesize(engine, Utterance("a", text, prompt, Options(**options)))["a"]


@pytest.mark.parametrize(("lag", "graphs"), [(0, False), (2, True)])
def test_looping_text_is_stopped(
    model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch, lag: int, graphs: bool
) -> None:
    monkeypatch.setitem(model.__dict__, "network", looping(model.network))
    engine = QwenEngine(lambda: model, capacity=2, model="tiny", allocate=allocating(lag=lag, graphs=graphs))
    done = synthesize_text(engine, x_vector)
    assert len(done.samples) == 60 * FRAME_SAMPLES
    assert (done.finish_reason, done.may_retry) == ("length", True)
    assert "it was looping, and was cut off after 5 s" in done.warnings[0]
    assert engine.stages.generator.rows == engine.stages.decoder.rows == []


@pytest.mark.usefixtures("endless")
def test_silent_text_is_stopped(
    model: Model, engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = model.codec.decode

    def silence(*arguments: Any) -> Any:
        samples, state = decode(*arguments)
        return samples * 0, state

    monkeypatch.setattr(model.codec, "decode", silence)
    done = synthesize_text(engine, x_vector)
    assert len(done.samples) == 52 * FRAME_SAMPLES
    assert (done.finish_reason, done.may_retry) == ("length", True)
    assert "it was silent" in done.warnings[0]


@pytest.mark.usefixtures("endless")
def test_echoing_text_is_stopped(
    model: Model, engine: QwenEngine, long_reference: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert long_reference.codes is not None
    generator = torch.Generator().manual_seed(1)
    reference = torch.randint(0, model.codec.codebook_size, long_reference.codes.shape, generator=generator)
    prompt = dataclasses.replace(long_reference, codes=reference)
    step = Generator.step

    def echo(self: Generator) -> Any:
        progress = step(self)
        for row, _ in progress:
            row.codes[-1][0] = int(reference[len(row.codes), 0])
        return progress

    monkeypatch.setattr(Generator, "step", echo)
    done = synthesize_text(engine, prompt)
    assert len(done.samples) == 36 * FRAME_SAMPLES
    assert (done.finish_reason, done.may_retry) == ("length", True)
    assert "it was echoing the reference" in done.warnings[0]


@pytest.mark.usefixtures("endless")
def test_endless_text_may_be_retried(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "CAP_SECONDS", 0.8)
    monkeypatch.setattr(job_module, "CAP_FACTOR", 0.0)
    done = synthesize_text(engine, x_vector)
    assert (done.finish_reason, done.may_retry) == ("length", True)
    assert "it was endless" in done.warnings[0]
    assert not synthesize_text(engine, x_vector, temperature=0).may_retry  # another seed would give the same


@pytest.mark.usefixtures("endless")
def test_max_seconds_is_no_runaway(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    done = synthesize_text(engine, x_vector, max_seconds=1)
    assert (done.finish_reason, done.may_retry) == ("length", False)
    assert done.warnings == ("The speech was cut off after 1 s, as max_seconds asks.",)


def test_attempt_uses_next_seed(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    utterance = Utterance("a", "Hi.", x_vector, Options(seed=5, max_seconds=1), attempt=1)
    second = synthesize(engine, utterance)["a"]
    same = synthesize_text(engine, x_vector, "Hi.", seed=6, max_seconds=1)
    assert np.array_equal(second.samples, same.samples)
    assert second.finish_reason in {"retried", "length"}


@pytest.fixture
def short_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set caps with which about half of the rows of the tiny model end by themselves."""
    monkeypatch.setattr(job_module, "CAP_SECONDS", 2.4)
    monkeypatch.setattr(job_module, "CAP_FACTOR", 0.0)


@pytest.mark.usefixtures("short_caps")
def test_later_part_is_retried_with_next_seed(model: Model, x_vector: QwenPrompt) -> None:
    assert len(parts_of(TWO_PARTS.strip(), "Auto")) == 2
    engine = QwenEngine(lambda: model, capacity=2, model="tiny")
    found = ((seed, synthesize_text(engine, x_vector, TWO_PARTS, seed=seed)) for seed in range(60))
    seed, retried = next((seed, done) for seed, done in found if done.finish_reason == "retried")
    assert retried.warnings == ()
    assert not retried.may_retry
    alone = QwenEngine(lambda: model, capacity=1, model="tiny", allocate=allocating(lag=1))
    again = synthesize_text(alone, x_vector, TWO_PARTS, seed=seed)
    assert len(again.samples) == len(retried.samples)
    assert np.abs(again.samples - retried.samples).max() < 1e-3


@pytest.mark.usefixtures("short_caps")
def test_later_part_is_retried_twice_at_most(
    model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model.__dict__, "network", never_ending(model.network))
    engine = QwenEngine(lambda: model, capacity=2, model="tiny")
    admitted: list[Row] = []
    admit = engine.stages.generator.admit

    def watched(rows: Sequence[Row]) -> None:
        admitted.extend(rows)
        admit(rows)

    monkeypatch.setattr(engine.stages.generator, "admit", watched)
    done = synthesize_text(engine, x_vector, TWO_PARTS, seed=1)
    assert sorted((row.part, row.attempt, row.seed) for row in admitted) == [
        (0, 0, 1),
        (1, 0, 1),
        (1, 1, 2),
        (1, 2, 3),
    ]
    assert done.finish_reason == "length"
    assert len(done.warnings) == 1
