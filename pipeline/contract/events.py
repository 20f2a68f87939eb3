"""What a WebSocket client is told, and the storage events that lead to it."""

import json
from typing import Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, ValidationError

from pipeline.contract.records import Failed, Succeeded, format_utc


def audio_url(job_id: str) -> str:
    """Give the path under which a preview is served."""
    return f"/previews/{job_id}.wav"


def message_for(outcome: Succeeded | Failed) -> dict[str, Any]:
    """Say to a client how a job ended."""
    if isinstance(outcome, Failed):
        return _message(
            "error", outcome, {"message": outcome.message, "code": outcome.code, "field": outcome.field}
        )
    if outcome.preview is None:
        return _message("embedding_complete", outcome, {})
    return _message(
        "tts_complete",
        outcome,
        {
            "audio_url": audio_url(outcome.job_id),
            "temporary": True,
            "duration_seconds": outcome.preview.duration_seconds,
            "sample_rate": outcome.preview.sample_rate,
            "expires_at": format_utc(outcome.preview.expires_at),
            "warnings": list(outcome.warnings) or None,
        },
    )


def _message(type_: str, outcome: Succeeded | Failed, more: dict[str, Any]) -> dict[str, Any]:
    data = {
        "job_id": outcome.job_id,
        "request_id": outcome.request_id,
        "correlation_id": outcome.correlation_id,
        "session_id": outcome.source.session_id,
        "voice_id": outcome.source.voice_id,
        **more,
    }
    return {"type": type_, "data": {name: value for name, value in data.items() if value is not None}}


class _Object(BaseModel):
    key: str


class _Bucket(BaseModel):
    name: str


class _S3(BaseModel):
    bucket: _Bucket
    object: _Object


class _Record(BaseModel):
    s3: _S3
    event_name: str = Field(alias="eventName")


class _Notification(BaseModel):
    records: list[_Record] = Field(default=[], alias="Records")


def keys_created(body: str) -> list[str]:
    """Read the keys out of an S3 event notification; none from its test event or anything else.

    Keys come URL-encoded as in a form (S3 user guide, "Event message structure").
    """
    try:
        notification = _Notification.model_validate_json(body)
    except ValidationError:
        return []
    return [
        unquote_plus(record.s3.object.key)
        for record in notification.records
        if record.event_name.startswith(("ObjectCreated:", "s3:ObjectCreated:"))
    ]


def created_notification(bucket: str, key: str) -> str:
    """Write the event that S3 would send, to say once more what may have been lost."""
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
    return json.dumps({"Records": [record]})
