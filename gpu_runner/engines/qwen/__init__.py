"""The Qwen3-TTS engine: clones a voice from a reference, with or without its transcript.

`load` is all that the worker needs.  From the outside in: `engine` keeps the jobs; `stages` are what the rows of a
job go through; `prefix` lays out what is read before the first frame; `network` is what runs on the device;
`prompts` creates and stores voices; `text` splits long texts and `joining` concatenates their audio; `model` is
what `checkpoint` has loaded.  The design is explained in docs/engine.md.
"""

from gpu_runner.engines.qwen.checkpoint import weights
from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.engine import QwenEngine
from pipeline.settings import Settings


def load(settings: Settings) -> QwenEngine:
    """Create the engine; with `PRELOAD_MODEL_ON_STARTUP` its model is ready when this returns.

    Raises
    ------
    CannotLoad
        The model can't be used here; the message says in one line why, and what to do.
    """
    name = weights.name_of(settings.qwen_tts_model_id)
    engine = QwenEngine(lambda: open_model(settings), capacity=settings.worker_batch_size, model=name)
    if settings.preload_model_on_startup:
        engine.warm_up()
    return engine
