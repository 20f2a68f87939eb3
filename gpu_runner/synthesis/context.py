"""The context in which all jobs are processed."""

from collections.abc import Callable
from dataclasses import dataclass

from gpu_runner.dependency_health import Sleep
from gpu_runner.synthesis.engine_thread import EngineThread
from gpu_runner.synthesis.prompt_store import PromptStore
from pipeline.clients.resources import Resources


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Everything the worker holds for its lifetime."""

    resources: Resources
    engine: EngineThread
    prompts: PromptStore
    sample_rate: int
    reproducible_as: Callable[[], str | None]
    """See `Reproducible`. Returns None if a retried job may have different audio."""
    sleep: Sleep
