from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch

from gpu_runner.engines import Reference
from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.checkpoint.model import SAMPLE_RATE, Model
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.prompts import QwenPrompt
from pipeline.audio.reference_audio import Recording
from pipeline.contract.records import Options
from pipeline.settings import Settings
from tests.qwen import tiny_checkpoint
from tests.qwen.stages import never_ending

SAID = "Hello there, how are you today?"


class MakePrompt(Protocol):
    def __call__(self, pitch: float, transcription: str = "", seconds: float = 2.0) -> QwenPrompt: ...


class MakeEngine(Protocol):
    def __call__(self, capacity: int = 4) -> QwenEngine: ...


def hum(pitch: float, seconds: float = 2.0, rate: int = SAMPLE_RATE) -> Recording:
    """Return a sound like a voice: a pitch with overtones, modulated like syllables."""
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
    """Remove the end token. Random weights end at random."""
    monkeypatch.setitem(model.__dict__, "network", never_ending(model.network))


@pytest.fixture
def engine(model: Model) -> QwenEngine:
    return QwenEngine(lambda: model, capacity=4, model="tiny")


@pytest.fixture(scope="session")
def make_prompt(model: Model) -> MakePrompt:
    maker = QwenEngine(lambda: model, capacity=1, model="tiny")

    def make(pitch: float, transcription: str = "", seconds: float = 2.0) -> QwenPrompt:
        return maker.make_prompt(Reference(hum(pitch, seconds), transcription))

    return make


@pytest.fixture(scope="session")
def in_context(make_prompt: Callable[..., QwenPrompt]) -> QwenPrompt:
    return make_prompt(180, SAID)


@pytest.fixture(scope="session")
def long_reference(make_prompt: Callable[..., QwenPrompt]) -> QwenPrompt:
    """Longer than the codec's window of 72 frames."""
    return make_prompt(150, " ".join([SAID] * 4), seconds=8.0)


@pytest.fixture(scope="session")
def x_vector(make_prompt: Callable[..., QwenPrompt]) -> QwenPrompt:
    return make_prompt(320)
