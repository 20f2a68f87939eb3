"""The one place that knows which engines there are."""

from gpu_runner.engines import CannotLoad, Engine
from gpu_runner.engines.mock import MockEngine
from pipeline.settings import Settings


def load_engine(settings: Settings) -> Engine:
    """Load the engine that the settings name; it may take minutes.

    Raises
    ------
    CannotLoad
        It can't be had here; the message says why in one line.
    """
    if settings.tts_backend == "mock":
        return MockEngine(capacity=settings.worker_batch_size, delay_seconds=settings.mock_delay_seconds)
    raise CannotLoad(
        f"TTS_BACKEND={settings.tts_backend} is not part of this build; TTS_BACKEND=mock runs without a model."
    )
