"""Which engine the settings name."""

import pytest

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.load import load_engine
from gpu_runner.engines.mock import MockEngine
from pipeline.settings import Settings


def test_the_mock_engine_speaks_as_many_texts_as_the_worker_holds() -> None:
    engine = load_engine(Settings(tts_backend="mock", worker_batch_size=5))
    assert isinstance(engine, MockEngine)
    assert engine.capacity == 5


def test_an_engine_that_is_not_part_of_the_build_is_refused_in_one_line() -> None:
    with pytest.raises(CannotLoad, match="TTS_BACKEND=qwen") as refusal:
        load_engine(Settings(tts_backend="qwen"))
    assert "\n" not in str(refusal.value)
