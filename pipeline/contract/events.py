"""The events queue: what the storage tells of new objects, and notifications that are retried."""

import json
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, ValidationError

from pipeline.contract.records import Record, Subscriber


class Notification(Record):
    """One subscriber that is yet to be notified of a job's end."""

    job_id: str
    subscriber: Subscriber


def parse_notification(body: str) -> Notification | None:
    """Read a message that is a notification; None when it is not, as the storage's events are not."""
    try:
        return Notification.model_validate_json(body)
    except ValidationError:
        return None


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
