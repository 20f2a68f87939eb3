"""The messages that are sent to WebSocket clients, as `{"type", "data"}`."""

from typing import Any

from functions.previews.urls import audio_url
from pipeline.clients.resources import Resources
from pipeline.contract.records import Failed, Outcome, Subscriber, format_utc
from pipeline.domain import presigned_urls
from pipeline.errors import PipelineError
from pipeline.logs import current_correlation_id

Message = dict[str, Any]


async def completion(resources: Resources, outcome: Outcome, subscriber: Subscriber | None = None) -> Message:
    """Return the message about the outcome of a job, for a subscriber of its own, or one for everybody."""
    if isinstance(outcome, Failed):
        failed = {"message": outcome.message, "code": outcome.code, "field": outcome.field}
        return _end("error", outcome, subscriber, failed)
    if outcome.preview is None:
        return _end("embedding_complete", outcome, subscriber, {})
    return _end(
        "tts_complete",
        outcome,
        subscriber,
        {
            "audio_url": audio_url(outcome.job_id),
            "temporary": True,
            "duration_seconds": outcome.preview.duration_seconds,
            "sample_rate": outcome.preview.sample_rate,
            "expires_at": format_utc(outcome.preview.expires_at),
            "warnings": list(outcome.warnings) or None,
            "signed_url": await presigned_urls.signed_url(resources, outcome, subscriber.reply_to.base_url)
            if subscriber and subscriber.signed
            else None,
        },
    )


def _end(type_: str, outcome: Outcome, subscriber: Subscriber | None, more: Message) -> Message:
    data = {
        "job_id": outcome.job_id,
        "request_id": subscriber.request_id if subscriber else None,
        "correlation_id": outcome.correlation_id,
        "session_id": outcome.source.session_id,
        "voice_id": outcome.source.voice_id,
    }
    return _message(type_, data | more)


def reply(type_: str, request_id: str | None, data: Message) -> Message:
    """Return the response to a message."""
    always = {"request_id": request_id, "correlation_id": current_correlation_id()}
    return _message(type_, data | always)


def progress(request_id: str | None, job_id: str, ahead: int | None = None) -> Message:
    """Return the message that a job is queued; `ahead`: about how many jobs wait before it."""
    return reply("progress", request_id, {"job_id": job_id, "status": "queued", "ahead": ahead})


def error(error: PipelineError, *, message: str | None = None, request_id: str | None = None) -> Message:
    """Return the message for an error, with the error's message or another one."""
    return reply(
        "error", request_id, {"message": message or error.message, "code": error.code, "field": error.field}
    )


def _message(type_: str, data: Message) -> Message:
    return {"type": type_, "data": {name: value for name, value in data.items() if value is not None}}
