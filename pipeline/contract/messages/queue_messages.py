"""The messages of the synthesis queue."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.ids import is_id


class QueueMessage(BaseModel):
    """The body of a queue message: a claim check for `request.json`, which is included if it is short.

    The included request is not parsed here: that of a later version may have a format that only later workers know.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    job_id: str
    request: dict[str, Any] | None = None


def parse_queue_message(body: str) -> QueueMessage | None:
    """Parse a queue message. Return None if it is not one of this service."""
    try:
        message = QueueMessage.model_validate_json(body)
    except ValidationError:
        return None
    return message if is_id(message.job_id) else None
