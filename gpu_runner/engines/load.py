"""Selects and loads the engine that the settings name."""

from gpu_runner.engines import CannotLoad, Engine, OnStart
from gpu_runner.engines.mock import MockEngine
from pipeline.settings import Settings


def load_engine(settings: Settings, on_start: OnStart) -> Engine:
    """Load the engine of the settings. It may take minutes.

    Raises
    ------
    CannotLoad
        It can't be loaded. The message gives the reason in one line.
    DownloadFailed
        It can't be loaded, because its model can't be downloaded at present.
    """
    if settings.tts_backend == "mock":
        return MockEngine(
            capacity=settings.worker_batch_size,
            delay_seconds=settings.mock_delay_seconds,
            speed=settings.mock_speed,
        )
    if settings.tts_backend == "hibari":
        try:
            from gpu_runner.engines.hibari.engine import HibariEngine
        except ModuleNotFoundError as error:
            raise CannotLoad(
                f"TTS_BACKEND=hibari needs the package {error.name}, which is not installed: "
                "`pip install hibari-tts` installs it."
            ) from None
        return HibariEngine(capacity=settings.worker_batch_size)
    try:
        from gpu_runner.engines import qwen
    except ModuleNotFoundError as error:
        raise CannotLoad(
            f"TTS_BACKEND=qwen needs the package {error.name}, which is not installed. "
            "Run `python requirements/qwen.py` to install it, or use TTS_BACKEND=mock, which needs no model."
        ) from None
    return qwen.load(settings, on_start)
