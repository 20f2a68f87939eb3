"""The messages that the service sends: models of their data, and the functions that create them.

WebSocket clients, subscribers of job events and webhooks receive the same messages.  The AsyncAPI document is
generated from the models.
"""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pipeline.clients.resources import Resources
from pipeline.contract.layout import audio_url
from pipeline.contract.messages.stream_messages import AudioChunk, AudioProgress, StreamStarted
from pipeline.contract.records import (
    Failed,
    FinishReason,
    Outcome,
    Record,
    ReferenceCheck,
    Subscriber,
    UtcSeconds,
    VoiceMetadata,
)
from pipeline.domain import presigned_urls
from pipeline.errors import PipelineError
from pipeline.telemetry.logs import current_correlation_id

Message = dict[str, Any]


class _Response(Record):
    request_id: str | None = Field(None, description="The `request_id` of the client's message, if it had one")
    correlation_id: str | None = Field(
        default_factory=current_correlation_id, description="Identifies the request in all log lines"
    )


class _JobResult(_Response):
    job_id: str
    session_id: str | None = None
    voice_id: str | None = None


class TtsComplete(_JobResult):
    """A preview is complete."""

    audio_url: str = Field(description="Path of the preview on the API, until it expires")
    temporary: Literal[True]
    duration_seconds: float
    sample_rate: int
    take: str | None = Field(None, description="Id of the audio. Chunks with another `take` are not part of it")
    expires_at: UtcSeconds
    warnings: list[str] | None = None
    finish_reason: FinishReason | None = Field(None, description="How the audio ended; `length`: it was cut off")
    signed_url: str | None = Field(None, description="A URL that needs no key, if requested with `signed`")
    reference_check: ReferenceCheck | None = Field(
        None, description="Result of the checks of the recording, if they ended before the preview"
    )
    speaker_similarity: float | None = Field(
        None, description="Cosine of the speaker embeddings of the preview and the recording, if it was measured"
    )


class ReferenceChecked(_JobResult):
    """The checks of a reference recording have ended."""

    reference_check: ReferenceCheck


class EmbeddingComplete(_JobResult):
    """The embedding of a saved voice is complete."""


class Failure(_Response):
    """A message was rejected, or a job failed; only a failed job has `job_id`."""

    message: str
    code: str = Field(description="Stable name of the kind of error")
    field: str | None = Field(None, description="The invalid input field, if there is one")
    job_id: str | None = None
    session_id: str | None = None
    voice_id: str | None = None
    finish_reason: FinishReason | None = Field(None, description="`cancelled` if the job was cancelled")


class VoiceSaved(_Response):
    """A voice was saved."""

    voice_id: str
    name: str
    description: str


class JobCancelled(_Response):
    """A job was cancelled."""

    job_id: str


class JobQueued(_Response):
    """A job waits for a worker."""

    job_id: str
    status: Literal["queued"]
    ahead: int | None = Field(None, description="Approximate number of jobs ahead of this one")


# By the name of the message in the AsyncAPI document: its `type`, and the model of its `data`.
SERVER_MESSAGES: Mapping[str, tuple[str, type[Record]]] = {
    "tts_complete": ("tts_complete", TtsComplete),
    "embedding_complete": ("embedding_complete", EmbeddingComplete),
    "reference_checked": ("reference_checked", ReferenceChecked),
    "error": ("error", Failure),
    "voice_saved": ("voice_saved", VoiceSaved),
    "cancelled": ("cancelled", JobCancelled),
    "queued": ("progress", JobQueued),
    "started": ("progress", StreamStarted),
    "generating": ("progress", AudioProgress),
    "tts_audio": ("tts_audio", AudioChunk),
}
_TYPES = {model: type_ for type_, model in SERVER_MESSAGES.values()}


async def completion(
    resources: Resources, outcome: Outcome, subscriber: Subscriber | None = None, *, root_path: str | None = None
) -> Message:
    """Return the message about the outcome of a job, for one subscriber or, without one, for all.

    `root_path` is the prefix of the API's paths for the client. The default is that of the subscriber, or
    `ROOT_PATH`.
    """
    job: dict[str, Any] = {
        "job_id": outcome.job_id,
        "session_id": outcome.source.session_id,
        "voice_id": outcome.source.voice_id,
        "request_id": subscriber.request_id if subscriber else None,
        "correlation_id": outcome.correlation_id,
    }
    if isinstance(outcome, Failed):
        return _message(
            Failure(
                **job,
                message=outcome.message,
                code=outcome.code,
                field=outcome.field,
                finish_reason=outcome.finish_reason,
            )
        )
    if outcome.kind == "check" and outcome.reference_check:
        return _message(ReferenceChecked(**job, reference_check=outcome.reference_check))
    if outcome.preview is None:
        return _message(EmbeddingComplete(**job))
    signed_url = None
    if subscriber and subscriber.signed:
        signed_url = await presigned_urls.signed_url(resources, outcome, subscriber.reply_to.base_url)
    return _message(
        TtsComplete(
            **job,
            audio_url=audio_url(
                outcome.job_id,
                subscriber.format if subscriber else "wav",
                _root_path(resources, subscriber) if root_path is None else root_path,
                subscriber.speed if subscriber else 1,
            ),
            temporary=True,
            duration_seconds=outcome.preview.duration_seconds,
            sample_rate=outcome.preview.sample_rate,
            take=outcome.take,
            expires_at=outcome.preview.expires_at,
            warnings=list(outcome.warnings) or None,
            finish_reason=outcome.finish_reason,
            signed_url=signed_url,
            reference_check=outcome.reference_check,
            speaker_similarity=outcome.speaker_similarity,
        )
    )


def _root_path(resources: Resources, subscriber: Subscriber | None) -> str:
    base_url = subscriber.reply_to.base_url if subscriber else None
    return resources.settings.root_path if base_url is None else urlsplit(base_url).path.rstrip("/")


def queued(request_id: str | None, job_id: str, ahead: int | None = None) -> Message:
    """Return the message that a job waits for a worker; `ahead` is the approximate number of jobs ahead of it."""
    return _message(JobQueued(request_id=request_id, job_id=job_id, status="queued", ahead=ahead))


def voice_saved(request_id: str | None, voice: VoiceMetadata) -> Message:
    """Return the message that a voice was saved."""
    return _message(
        VoiceSaved(request_id=request_id, voice_id=voice.voice_id, name=voice.name, description=voice.description)
    )


def cancelled(request_id: str | None, job_id: str) -> Message:
    """Return the message that a job was cancelled."""
    return _message(JobCancelled(request_id=request_id, job_id=job_id))


def error(error: PipelineError, *, message: str | None = None, request_id: str | None = None) -> Message:
    """Return the message for an error, with the error's own text or with `message`."""
    return failure(message or error.message, error.code, field=error.field, request_id=request_id)


def failure(message: str, code: str, *, field: str | None = None, request_id: str | None = None) -> Message:
    """Return an error message."""
    return _message(
        Failure(request_id=_encodable(request_id), message=_encodable(message), code=code, field=_encodable(field))
    )


def _message(data: Record) -> Message:
    return {"type": _TYPES[type(data)], "data": data.model_dump(mode="json", exclude_none=True)}


def _encodable(text: Any) -> Any:
    """Escape lone surrogates: JSON input can contain them, but UTF-8, and so a frame, can't."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text
