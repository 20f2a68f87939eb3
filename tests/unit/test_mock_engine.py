"""The mock engine: a voice that can be told apart, the same every time, at the pitch of its reference."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from gpu_runner.engines import Finished, PromptRejected, Reference, Utterance
from gpu_runner.engines.mock import LONGEST_SECONDS, SAMPLE_RATE, SHORTEST_SECONDS, MockEngine, MockPrompt, hum
from gpu_runner.engines.pitch import median_pitch
from pipeline.audio import Recording
from pipeline.errors import InvalidInput
from pipeline.records import Options
from tests.speech import voice

GOOD = MockPrompt(f0=120.0, level=0.1)


def heard(text: str, prompt: MockPrompt = GOOD) -> Recording:
    return Recording(hum(text, prompt), SAMPLE_RATE)


class Watch:
    """A monotonic clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_it_speaks_at_the_pitch_of_its_reference(pitch: float, sample_rate: int) -> None:
    prompt = MockEngine().make_prompt(Reference(voice(pitch, sample_rate=sample_rate), ""))
    spoken = median_pitch(heard("The quick brown fox jumps over the lazy dog.", MockPrompt.model_validate(prompt)))
    assert spoken == pytest.approx(pitch, rel=0.05)
