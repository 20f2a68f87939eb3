"""Responses with a file, or with the requested range of it (RFC 9110, section 14)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime

from fastapi import Response

from functions.http.parameters.ranges import WHOLE_FILE, FileRequest
from pipeline.clients.storage import (
    Bucket,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoredObject,
)


class UnsatisfiableRange(Exception):
    """The requested range is outside of the file, which exists."""

    def __init__(self, size: int, last_modified: datetime) -> None:
        super().__init__(f"bytes */{size}")
        self.size = size
        self.last_modified = last_modified


@dataclass(frozen=True, slots=True)
class FilePart:
    """The part of a stored file that was read for a request."""

    stored: StoredObject
    is_range: bool
    """Whether it answers a range request; a file that was limited to the size of a response is not a range."""
    is_complete: bool
    """Whether it contains all requested bytes; False if they are more than a response can have."""

    def response(self, headers: Mapping[str, str], media_type: str) -> Response:
        """Return the response: 206 for a range, otherwise 200."""
        stored = self.stored
        headers = {**headers, "Accept-Ranges": "bytes", "ETag": stored.etag}
        if self.is_range and stored.content_range:
            headers["Content-Range"] = stored.content_range
            return Response(stored.body, 206, headers, media_type)
        return Response(stored.body, 200, headers, media_type)


async def read_file(bucket: Bucket, key: str, request: FileRequest, *, max_bytes: int) -> FilePart | None:
    """Read the requested range of an object, or all of it if there is no range or its condition is not met.

    Parameters
    ----------
    bucket, key
        The object.
    request
        The range and its condition.
    max_bytes
        The most that a response can have; 0: no limit.

    Returns
    -------
    FilePart | None
        None if the object does not exist.

    Raises
    ------
    UnsatisfiableRange
        The range is outside of the object.
    """
    range_, if_range = request.range, request.if_range
    if if_range and not if_range.startswith('"'):
        # A date, or a weak ETag, which RFC 9110 does not allow as the condition of a range.
        range_ = None
    try:
        stored = await bucket.read(
            key,
            range_=(range_ or WHOLE_FILE).header(max_bytes) if range_ or max_bytes else None,
            if_match=if_range if range_ else None,
        )
    except PreconditionFailed:
        return await read_file(bucket, key, FileRequest(), max_bytes=max_bytes)
    except RangeNotSatisfiable:
        info = await bucket.head(key)
        if info is None:
            return None
        raise UnsatisfiableRange(info.size, info.last_modified) from None
    if stored is None:
        return None
    is_complete = stored.content_range is None or (range_ or WHOLE_FILE).is_covered_by(stored.content_range)
    return FilePart(stored, is_range=range_ is not None, is_complete=is_complete)


def file_part(file: StoredObject, request: FileRequest) -> FilePart:
    """Return the requested range of a complete file, or all of it as `read_file` does.

    Raises
    ------
    UnsatisfiableRange
        The range is outside of the file.
    """
    size = len(file.body)
    if request.range is None or request.if_range not in {None, file.etag}:
        return FilePart(file, is_range=False, is_complete=True)
    bounds = request.range.bounds(size)
    if bounds is None:
        raise UnsatisfiableRange(size, file.last_modified)
    first, last = bounds
    part = replace(file, body=file.body[first : last + 1], content_range=f"bytes {first}-{last}/{size}")
    return FilePart(part, is_range=True, is_complete=True)


def http_date(moment: datetime) -> str:
    """Return a moment in the format of HTTP headers."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
