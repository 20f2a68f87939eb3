"""Which engine the settings name."""

import sys

import pytest

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.load import load_engine
from gpu_runner.engines.mock import MockEngine
from pipeline.settings import Settings


def test_the_mock_engine_speaks_as_many_texts_as_the_worker_holds() -> None:
    engine = load_engine(Settings(tts_backend="mock", worker_batch_size=5))
    assert isinstance(engine, MockEngine)
    assert engine.capacity == 5


def test_a_model_that_is_not_there_is_refused_in_one_line() -> None:
    with pytest.raises(CannotLoad, match="QWEN_TTS_MODEL_ID=/nowhere: there is no such directory") as refusal:
        load_engine(Settings(tts_backend="qwen", qwen_tts_model_id="/nowhere", device="cpu"))
    assert "\n" not in str(refusal.value)


def test_packages_that_are_not_installed_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpu_runner.engines.qwen")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("gpu_runner.engines.qwen", raising=False)
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(CannotLoad, match="needs the package sentencex, which is not installed") as refusal:
        load_engine(Settings(tts_backend="qwen"))
    assert "\n" not in str(refusal.value)
