"""`Range`, `If-Range` and `If-None-Match` of a request for a file (RFC 9110, sections 13.1 and 14)."""

import re
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import Depends, Header
from pydantic import AfterValidator

_ONE_RANGE = re.compile(r"bytes=(?P<first>\d{1,18})?-(?P<last>\d{1,18})?", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<size>\d+)")
# An entity tag in ASCII. The tags of the storage contain no other characters.
_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,256}"')


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `first` to `last` inclusive, or to the end; the last `last` bytes if `first` is None."""

    first: int | None
    last: int | None

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """Return the range of a header with a single valid one; any other may be ignored (section 14.2)."""
        match = _ONE_RANGE.fullmatch(header)
        if match is None or (match["first"], match["last"]) == (None, None):
            return None
        first, last = (int(text) if text is not None else None for text in (match["first"], match["last"]))
        is_valid = first is None or last is None or first <= last
        return cls(first, last) if is_valid else None

    def header(self, limit: int = 0) -> str:
        """Return the `Range` header, limited to the first `limit` bytes; 0: no limit."""
        last = self.last
        if limit:
            limited = limit if self.first is None else self.first + limit - 1
            last = limited if last is None else min(last, limited)
        return f"bytes={'' if self.first is None else self.first}-{'' if last is None else last}"

    def bounds(self, size: int) -> tuple[int, int] | None:
        """Return the first and the last position in a file of this size; None if the range is outside of it."""
        if self.first is None:
            first, last = max(0, size - (self.last or 0)), size - 1
        else:
            first, last = self.first, size - 1 if self.last is None else min(self.last, size - 1)
        return (first, last) if first <= last else None

    def is_covered_by(self, content_range: str) -> bool:
        """Return whether a response with this `Content-Range` contains all existing bytes of the range."""
        match = _CONTENT_RANGE.fullmatch(content_range)
        assert match is not None, content_range  # noqa: S101 - sent by the storage
        first, last, size = (int(match[name]) for name in ("first", "last", "size"))
        if self.first is None:
            return first <= max(0, size - (self.last or 0))
        return last >= min(size - 1 if self.last is None else self.last, size - 1)


WHOLE_FILE = ByteRange(0, None)


@dataclass(frozen=True, slots=True)
class FileRequest:
    """The requested range and the conditions of a request for a file."""

    range: ByteRange | None = None
    if_range: str | None = None
    if_none_match: str | None = None

    @property
    def etags(self) -> set[str]:
        """The ETags in `If-None-Match`, as strong ones: their comparison is weak (section 13.1.2)."""
        tags = (self.if_none_match or "").split(",")
        return {tag.strip().removeprefix("W/") for tag in tags} - {""}

    def client_has(self, etag: str) -> bool:
        """Return whether `If-None-Match` contains an ETag, or `*`."""
        return not self.etags.isdisjoint({etag, "*"})


def _check_if_range(value: str | None) -> str | None:
    if value is not None and value.startswith('"') and not _ETAG.fullmatch(value):
        raise ValueError("should be the ETag of the file in double quotes, or a date")
    return value


async def _file_request(
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes")] = None,
    if_range: Annotated[
        str | None,
        AfterValidator(_check_if_range),
        Header(description="ETag of the file version"),
    ] = None,
    if_none_match: Annotated[str | None, Header(description="ETag of the version that the client has")] = None,
) -> FileRequest:
    return FileRequest(ByteRange.parse(range_ or ""), if_range, if_none_match)


FromFileRequest = Annotated[FileRequest, Depends(_file_request)]
