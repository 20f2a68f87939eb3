"""The base class of all stored records, and the type of their moments."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer


def format_utc(moment: datetime) -> str:
    """Return a moment in the format of all responses: ISO 8601, UTC, whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


UtcSeconds = Annotated[AwareDatetime, PlainSerializer(format_utc, return_type=str, when_used="json-unless-none")]


class Record(BaseModel):
    """Stored data: unknown fields are ignored so that different versions can run at the same time."""

    # Built at first use: no process uses all of them, and this shortens a function's cold start.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    def to_json(self) -> bytes:
        """Return the record as UTF-8 JSON."""
        return self.model_dump_json(exclude_none=True).encode()
