"""The messages that clients receive, as models for the AsyncAPI document; `messages` builds them."""

from typing import Literal

from pydantic import BaseModel, Field

from functions.websocket.dispatch import Cancel, GeneratePreview, SaveVoice, Subscribe
from pipeline.contract.messages.stream_messages import AudioChunk, AudioProgress, StreamStarted
from pipeline.contract.records import Record, UtcSeconds

SENT_BY_CLIENTS: dict[str, type[BaseModel]] = {
    "generate_preview": GeneratePreview,
    "save_voice": SaveVoice,
    "subscribe": Subscribe,
    "cancel": Cancel,
}


class _Reply(Record):
    request_id: str | None = Field(None, description="Of the message that this one answers, if that had one")
    correlation_id: str | None = Field(None, description="Names the request in every log line")


class _JobEnd(_Reply):
    job_id: str
    session_id: str | None = None
    voice_id: str | None = None


class TtsComplete(_JobEnd):
    """A preview has been made."""

    audio_url: str = Field(description="Path of the preview on the API, until it expires")
    temporary: Literal[True]
    duration_seconds: float
    sample_rate: int
    expires_at: UtcSeconds
    warnings: list[str] | None = None
    signed_url: str | None = Field(None, description="A link that needs no key, where that was asked for")


class EmbeddingComplete(_JobEnd):
    """The embedding of a saved voice has been made."""


class Failure(_Reply):
    """A message that can't be served, or a job that failed: then it has `job_id`."""

    message: str
    code: str = Field(description="Stable name of the kind of error")
    field: str | None = Field(None, description="The input field that is wrong, if there is one")
    job_id: str | None = None
    session_id: str | None = None
    voice_id: str | None = None


class VoiceSaved(_Reply):
    """A voice was saved."""

    voice_id: str
    name: str
    description: str


class JobCancelled(_Reply):
    """A job was cancelled."""

    job_id: str


class JobQueued(_Reply):
    """A job waits for a worker."""

    job_id: str
    status: Literal["queued"]
    ahead: int | None = Field(None, description="About how many jobs wait before it")


# By the name of the message in the document: its `type`, and the model of its `data`.
RECEIVED_BY_CLIENTS: dict[str, tuple[str, type[Record]]] = {
    "tts_complete": ("tts_complete", TtsComplete),
    "embedding_complete": ("embedding_complete", EmbeddingComplete),
    "error": ("error", Failure),
    "voice_saved": ("voice_saved", VoiceSaved),
    "cancelled": ("cancelled", JobCancelled),
    "queued": ("progress", JobQueued),
    "started": ("progress", StreamStarted),
    "generating": ("progress", AudioProgress),
    "tts_audio": ("tts_audio", AudioChunk),
}
