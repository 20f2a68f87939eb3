"""Errors of the choice of the qwen engine."""

import sys

import pytest

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.load import load_engine
from pipeline.settings import Settings


def test_missing_model_is_one_line() -> None:
    with pytest.raises(CannotLoad, match="QWEN_TTS_MODEL_ID=/nowhere: there is no such directory") as refusal:
        load_engine(Settings(tts_backend="qwen", qwen_tts_model_id="/nowhere", device="cpu"), lambda _: None)
    assert "\n" not in str(refusal.value)


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpu_runner.engines.qwen")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("gpu_runner.engines.qwen", raising=False)
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(CannotLoad, match="needs the package sentencex, which is not installed") as refusal:
        load_engine(Settings(tts_backend="qwen"), lambda _: None)
    assert "\n" not in str(refusal.value)
