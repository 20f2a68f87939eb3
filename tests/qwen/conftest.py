from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_runner.engines import Reference
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.loading import open_model
from gpu_runner.engines.qwen.model import SAMPLE_RATE, Model
from gpu_runner.engines.qwen.prompts import QwenPrompt
from pipeline.audio.reference_audio import Recording
from pipeline.contract.records import Options
from pipeline.settings import Settings
from tests.qwen import tiny_checkpoint

SAID = "Hello there, how are you today?"


def hum(pitch: float, seconds: float = 2.0, rate: int = SAMPLE_RATE) -> Recording:
    """Something like a voice: a pitch with overtones that comes and goes like syllables."""
    time = np.arange(int(rate * seconds)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * overtone * time) / overtone for overtone in (1, 2, 3))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)
    return Recording((0.2 * tone * syllables).astype(np.float32), rate)


def greedy(**more: object) -> Options:
    return Options.model_validate({"temperature": 0, "max_seconds": 1, **more})


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint.build(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def settings(checkpoint: Path) -> Settings:
    return Settings(qwen_tts_model_id=str(checkpoint), device="cpu", torch_threads=1)


@pytest.fixture(scope="session")
def model(settings: Settings) -> Model:
    return open_model(settings)


@pytest.fixture
def endless(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech that never ends by itself; random weights end when they like."""
    never = model.never.clone()
    never[model.end] = True
    monkeypatch.setitem(model.__dict__, "never", never)


@pytest.fixture
def engine(model: Model) -> QwenEngine:
    return QwenEngine(lambda: model, capacity=4, model="tiny")


@pytest.fixture(scope="session")
def make_prompt(model: Model) -> Callable[..., QwenPrompt]:
    maker = QwenEngine(lambda: model, capacity=1, model="tiny")

    def make(pitch: float, transcription: str = "", seconds: float = 2.0) -> QwenPrompt:
        return maker.make_prompt(Reference(hum(pitch, seconds), transcription))

    return make


@pytest.fixture(scope="session")
def in_context(make_prompt: Callable[..., QwenPrompt]) -> QwenPrompt:
    return make_prompt(180, SAID)


@pytest.fixture(scope="session")
def x_vector(make_prompt: Callable[..., QwenPrompt]) -> QwenPrompt:
    return make_prompt(320)
