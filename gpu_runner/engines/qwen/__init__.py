"""Qwen3-TTS as an engine: clones a voice from a reference, with or without its transcript.

`load` is all that the worker needs.  From the outside in: `engine` keeps the jobs, `boarding` says whose parts come
next, `generation` speaks the frames of many at once, `prefix` lays out what is read before them, `prompts` makes
and keeps voices, `text` and `joining` take long texts apart and put their sound together, `model` drives the
published modules, `loading` (with `devices`, `weights` and `stand_ins`) gets them onto a device.
"""

from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.loading import open_model
from pipeline.settings import Settings


def load(settings: Settings) -> QwenEngine:
    """Make the engine; with `PRELOAD_MODEL_ON_STARTUP` its model is ready when this returns.

    Raises
    ------
    CannotLoad
        The model can't be used here; the message says in one line why, and what to do.
    """
    engine = QwenEngine(
        lambda: open_model(settings), capacity=settings.worker_batch_size, model=settings.qwen_tts_model_id
    )
    if settings.preload_model_on_startup:
        engine.warm_up()
    return engine
