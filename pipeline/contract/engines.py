"""The engines, the voice that a client may expect of each, and the state of an engine that starts."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.settings import Backend


class EngineInfo(BaseModel):
    """The engine of a service, as it is described to clients."""

    model_config = ConfigDict(frozen=True)

    name: Backend
    clones: bool = Field(description="Whether the output is a clone of the reference voice")
    label: str = Field(description="Short description of the output")
    notice: str | None = Field(None, description="What the output is instead of a clone, and how to get one")


class EngineStart(BaseModel):
    """The state of an engine that starts."""

    model_config = ConfigDict(frozen=True)

    phase: Literal["downloading", "loading"] = "loading"
    bytes: int | None = Field(None, description="Downloaded bytes, including those of earlier attempts")
    total_bytes: int | None = Field(None, description="Size of the download")
    remaining_seconds: int | None = Field(None, description="Estimated time until the end of the download")
    error: str | None = Field(None, description="Why the last attempt failed, and the next step. It is retried")


_REAL_VOICE = (
    "For a cloned voice, start the service with `make run TTS_BACKEND=qwen`. It downloads 2.5 GB of weights, needs "
    "3 GB of GPU memory or 5 GB without a GPU, and is much slower than real time on a CPU."
)

ENGINES: dict[Backend, EngineInfo] = {
    "qwen": EngineInfo(name="qwen", clones=True, label="Cloned voice"),
    "hibari": EngineInfo(
        name="hibari",
        clones=False,
        label="Adapted stock voice, not a clone",
        notice=f"An English stock voice with the pitch and timbre of the recording, not a clone. {_REAL_VOICE}",
    ),
    "mock": EngineInfo(
        name="mock",
        clones=False,
        label="Test tone, not speech",
        notice=f"This engine makes test tones. {_REAL_VOICE}",
    ),
}
