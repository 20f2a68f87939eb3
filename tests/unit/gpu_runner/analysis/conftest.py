"""Speech of two speakers: the stock voice of hibari, and a lower one."""

from collections.abc import Callable

import pytest

from gpu_runner.engines import Reference, Utterance
from gpu_runner.engines.hibari.engine import HibariEngine
from pipeline.audio.reference_audio import Recording
from pipeline.contract.records import Options
from tests.support.engines import synthesize
from tests.support.speech import voice

Speak = Callable[[str, float], Recording]


@pytest.fixture(scope="package")
def speak() -> Speak:
    """Return a function that speaks a text at a pitch in Hz."""
    engine = HibariEngine()

    def spoken(text: str, pitch: float) -> Recording:
        prompt = engine.make_prompt(Reference(voice(pitch), ""))
        return Recording(
            synthesize(engine, Utterance("a", text, prompt, Options()))["a"].samples, engine.sample_rate
        )

    return spoken
