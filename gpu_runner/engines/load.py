"""Selects and loads the engine that the settings name."""

from gpu_runner.engines import CannotLoad, Engine
from gpu_runner.engines.mock import MockEngine
from pipeline.settings import Settings


def load_engine(settings: Settings) -> Engine:
    """Load the engine that the settings name; it may take minutes.

    Raises
    ------
    CannotLoad
        It can't be loaded here; the message says why in one line.
    """
    if settings.tts_backend == "mock":
        return MockEngine(
            capacity=settings.worker_batch_size,
            delay_seconds=settings.mock_delay_seconds,
            speed=settings.mock_speed,
        )
    try:
        from gpu_runner.engines import qwen
    except ModuleNotFoundError as error:
        raise CannotLoad(
            f"TTS_BACKEND=qwen needs the package {error.name}, which is not installed; "
            "`python requirements/qwen.py` installs what it needs, and TTS_BACKEND=mock runs without a model."
        ) from None
    return qwen.load(settings)
