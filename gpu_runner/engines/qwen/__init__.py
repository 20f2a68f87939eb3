"""The Qwen3-TTS engine: clones a voice from a reference, with or without its transcript.

The worker calls `load` only. `engine` steps all jobs. `job` holds the state of a job and of its rows. `scheduler`
selects the rows to admit, `generator` generates their codes, and `decoder` decodes these to samples. `network`
contains the functions that run on the device. `prompts` creates and stores voices, `text` splits long texts, and
`joining` joins their audio. `checkpoint` loads the model. docs/engine.md explains the design.
"""

from gpu_runner.engines import OnStart
from gpu_runner.engines.qwen.checkpoint import weights
from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.engine import QwenEngine
from pipeline.settings import Settings


def load(settings: Settings, on_start: OnStart = lambda _: None) -> QwenEngine:
    """Create the engine. With `PRELOAD_MODEL_ON_STARTUP` its model is ready when this returns.

    Raises
    ------
    CannotLoad
        The model can't be used. The message gives the reason and a remedy in one line.
    DownloadFailed
        The model can't be downloaded at present.
    """
    name = weights.name_of(settings.qwen_tts_model_id)
    opened = open_model(settings, on_start) if settings.preload_model_on_startup else None
    engine = QwenEngine(
        lambda: opened or open_model(settings, on_start), capacity=settings.worker_batch_size, model=name
    )
    if opened:
        engine.warm_up()
    return engine
