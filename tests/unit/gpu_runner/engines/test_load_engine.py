"""The engine that the settings name."""

from gpu_runner.engines.load import load_engine
from gpu_runner.engines.mock import MockEngine
from pipeline.settings import Settings


def test_mock_capacity_is_batch_size() -> None:
    engine = load_engine(Settings(tts_backend="mock", worker_batch_size=5), lambda _: None)
    assert isinstance(engine, MockEngine)
    assert engine.capacity == 5
