"""The mock engine: a voice that can be told apart, the same every time, at the pitch of its reference."""

import json
from typing import Any

import numpy as np
import pytest

from gpu_runner.engines import PromptRejected, Reference, Utterance, VoicePrompt
from gpu_runner.engines.mock import LONGEST_SECONDS, SAMPLE_RATE, SHORTEST_SECONDS, MockEngine, MockPrompt, hum
from gpu_runner.engines.pitch import HIGHEST, LOWEST, median_pitch
from pipeline.audio.reference_audio import Recording
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput
from tests.support.engines import OutputCollector, synthesize
from tests.support.speech import voice

GOOD = MockPrompt(f0=120.0, level=0.1)
TEXT = "The quick brown fox jumps over the lazy dog."


class Watch:
    """A monotonic clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def prompt_of(recording: Recording) -> MockPrompt:
    prompt = MockEngine().make_prompt(Reference(recording, ""))
    assert isinstance(prompt, MockPrompt)
    return prompt


def utterance(job_id: str, text: str = TEXT, prompt: VoicePrompt = GOOD) -> Utterance:
    return Utterance(job_id, text, prompt, Options())


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 24_000, 44_100, 192_000])
@pytest.mark.parametrize("pitch", [75.0, 110.0, 165.0, 220.0, 330.0, 500.0])
def test_pitch_of_reference(pitch: float, sample_rate: int) -> None:
    prompt = prompt_of(voice(pitch, sample_rate=sample_rate))
    spoken = Recording(hum(TEXT, prompt), SAMPLE_RATE)
    assert prompt.f0 == pytest.approx(pitch, rel=0.02)
    assert median_pitch(spoken) == pytest.approx(pitch, rel=0.05)


def test_pitch_ignores_noise() -> None:
    clean = voice(130)
    noise = np.random.default_rng(7).normal(0, 0.03, len(clean.samples)).astype(np.float32)
    assert prompt_of(Recording(clean.samples + noise, clean.sample_rate)).f0 == pytest.approx(130, rel=0.03)


def test_pitch_ignores_offset() -> None:
    clean = voice(130)
    assert prompt_of(Recording(clean.samples + 0.4, clean.sample_rate)).f0 == pytest.approx(130, rel=0.03)


@pytest.mark.parametrize("pitch", [20.0, 2000.0])
def test_pitch_stays_in_range(pitch: float) -> None:
    moments = np.arange(16_000) / 16_000
    tone = Recording(np.sin(2 * np.pi * pitch * moments).astype(np.float32), 16_000)
    assert LOWEST <= prompt_of(tone).f0 <= HIGHEST


def test_noise_gives_prompt() -> None:
    noise = np.random.default_rng(3).normal(0, 0.2, 24_000).astype(np.float32)
    assert median_pitch(Recording(noise, 24_000)) is None
    assert LOWEST <= prompt_of(Recording(noise, 24_000)).f0 <= HIGHEST


def test_short_recording_has_no_pitch() -> None:
    assert median_pitch(Recording(np.ones(10, np.float32), 24_000)) is None


def test_level_of_reference() -> None:
    quiet, loud = (prompt_of(voice(150, loudness=loudness)) for loudness in (0.02, 0.4))
    assert np.abs(hum(TEXT, loud)).max() > 1.5 * np.abs(hum(TEXT, quiet)).max()


def test_same_text_gives_same_audio() -> None:
    np.testing.assert_array_equal(hum(TEXT, GOOD), hum(TEXT, GOOD))


def test_texts_of_same_length_differ() -> None:
    assert not np.array_equal(hum("abcdef ghij", GOOD), hum("klmnop qrst", GOOD))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("a", SHORTEST_SECONDS),
        ("x" * 100, 6.0),
        ("你好世界你好世界你好", 2.0),
        ("ж" * 50, 3.0),
        ("x" * 4096, LONGEST_SECONDS),
        ("语" * 4096, LONGEST_SECONDS),
    ],
)
def test_length_by_text(text: str, seconds: float) -> None:
    assert len(hum(text, GOOD)) / SAMPLE_RATE == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("text", ["a", TEXT, "...", "\uff0c\u3002", "😀", "\u200b", "é" * 3000, "a\x00b"])
def test_any_text_without_clicks(text: str) -> None:
    samples = hum(text, MockPrompt(f0=200.0, level=1.0))
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 0.1 < np.abs(samples).max() < 1
    assert np.abs(samples[[0, -1]]).max() < 0.001
    # The steepest that this wave gets at this pitch and level; a click would be a jump of its whole height.
    assert np.abs(np.diff(samples)).max() < 0.3


def test_mock_prompt_json_round_trip() -> None:
    prompt = prompt_of(voice(123.4))
    restored = MockEngine().restore_prompt(prompt.to_json())
    assert restored == prompt
    assert json.loads(prompt.to_json()).keys() == {"format", "model", "f0", "level"}


def document(**changes: Any) -> bytes:
    return json.dumps(json.loads(GOOD.to_json()) | changes).encode()


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        b"[" * 2000,
        b'{"a":' * 700 + b"1" + b"}" * 700,
        GOOD.to_json()[:-3],
        document(model="mock-2"),
        document(format=2),
        document(format="1"),
        document(f0="120"),
        document(f0=True),
        document(f0=None),
        document(f0=float("nan")),
        document(f0=float("inf")),
        document(f0=1e308),
        document(f0=-120.0),
        document(level=0),
        document(level=1e9),
        document(more=1),
        document(f0=[120.0]),
        GOOD.to_json() + b" " * 10_000,
        b'{"format":1,"model":"mock-1","level":0.1,"f0":1' + b"0" * 3000 + b"}",
    ],
)
def test_damaged_mock_prompt_rejected(hostile: bytes) -> None:
    with pytest.raises(PromptRejected):
        MockEngine().restore_prompt(hostile)


def test_admit_beyond_capacity_raises() -> None:
    engine = MockEngine(capacity=1)
    engine.admit(utterance("a"))
    with pytest.raises(RuntimeError):
        engine.admit(utterance("b"))
    assert OutputCollector().collect(engine.step()) == ["a"]
    engine.admit(utterance("b"))
    assert OutputCollector().collect(engine.step()) == ["b"]


def test_blank_text_rejected() -> None:
    engine = MockEngine(capacity=1)
    with pytest.raises(InvalidInput):
        engine.admit(utterance("a", text=" \n"))
    engine.admit(utterance("b"))


def test_foreign_prompt_raises() -> None:
    class Foreign:
        def to_json(self) -> bytes:
            return b"{}"

    with pytest.raises(TypeError):
        MockEngine().admit(utterance("a", prompt=Foreign()))


def test_admitted_share_delay() -> None:
    watch = Watch()
    engine = MockEngine(capacity=3, delay_seconds=2, monotonic=watch, sleep=watch.sleep)
    engine.admit(utterance("a"))
    engine.admit(utterance("b"))
    assert engine.step() == []
    assert watch.now < 0.1  # a step gives the runner a chance to admit more
    while watch.now < 0.5:
        engine.step()
    engine.admit(utterance("c"))
    collector = OutputCollector()
    ended: dict[str, tuple[float, float]] = {}
    while len(ended) < 3:
        finished = collector.collect(engine.step())
        ended |= {job_id: (watch.now, collector.results[job_id].seconds) for job_id in finished}
    assert {job_id: pytest.approx(moment, abs=0.02) for job_id, (moment, _) in ended.items()} == {
        "a": 2.0,
        "b": 2.0,
        "c": 2.5,
    }
    assert ended["c"][1] == pytest.approx(2.0, abs=0.02)


def test_empty_step() -> None:
    assert MockEngine(delay_seconds=5).step() == []


def test_pieces_are_text_in_voice() -> None:
    engine = MockEngine()
    high = MockPrompt(f0=240.0, level=0.1)
    heard = synthesize(engine, utterance("a", prompt=GOOD), utterance("b", text="Something else.", prompt=high))
    np.testing.assert_array_equal(heard["a"].samples, hum(TEXT, GOOD))
    np.testing.assert_array_equal(heard["b"].samples, hum("Something else.", high))


@pytest.mark.parametrize(("speed", "text"), [(1.0, TEXT), (4.0, TEXT), (10.0, "a")])
def test_speed_setting(speed: float, text: str) -> None:
    watch = Watch()
    engine = MockEngine(delay_seconds=1, speed=speed, monotonic=watch, sleep=watch.sleep)
    engine.admit(utterance("a", text))
    collector = OutputCollector()
    while not collector.collect(engine.step()):
        due = max(0.0, watch.now - 1) * speed * SAMPLE_RATE
        had = sum(map(len, collector.pieces.get("a", [])))
        assert due - 0.34 * SAMPLE_RATE - 0.02 * speed * SAMPLE_RATE <= had <= due + 1
    expected = hum(text, GOOD)
    np.testing.assert_array_equal(collector.results["a"].samples, expected)
    assert watch.now - 1 == pytest.approx(len(expected) / SAMPLE_RATE / speed, abs=0.02)


def test_cancelled_has_no_pieces() -> None:
    watch = Watch()
    engine = MockEngine(speed=1, monotonic=watch, sleep=watch.sleep)
    engine.admit(utterance("a"))
    collector = OutputCollector()
    while not collector.pieces.get("a"):
        collector.collect(engine.step())
    engine.cancel("a")
    engine.cancel("unknown")
    assert engine.step() == []
