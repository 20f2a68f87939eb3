"""The messages of the events queue: storage events for new objects, and notifications to be retried."""

import json
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, ValidationError

from pipeline.contract.records import Record, Subscriber


class Notification(Record):
    """A retry of notifying one subscriber of a job's end."""

    job_id: str
    subscriber: Subscriber


def parse_notification(body: str) -> Notification | None:
    """Parse a notification. Return None if the message is of another kind, such as a storage event."""
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
    """Return the keys in an S3 event notification, or an empty list for its test event or anything else.

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
    """Return the event that S3 would send, to replace one that may have been lost."""
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
    return json.dumps({"Records": [record]})
