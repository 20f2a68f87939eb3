"""A range of bytes, as requested by a client and limited to the size of a response (RFC 9110, section 14)."""

import re
from dataclasses import dataclass
from typing import Self

_ONE_RANGE = re.compile(r"bytes=(?P<first>\d{1,18})?-(?P<last>\d{1,18})?", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<size>\d+)")


@dataclass(frozen=True, slots=True)
class Span:
    """From `first` to `last` inclusive, or to the end; the last `last` bytes if `first` is None."""

    first: int | None
    last: int | None

    @classmethod
    def of(cls, given: str) -> Self | None:
        """Return the range of a header that has a single valid one; any other may be ignored (section 14.2)."""
        match = _ONE_RANGE.fullmatch(given)
        if match is None or (match["first"], match["last"]) == (None, None):
            return None
        first, last = (int(text) if text is not None else None for text in (match["first"], match["last"]))
        makes_sense = first is None or last is None or first <= last
        return cls(first, last) if makes_sense else None

    def header(self, limit: int = 0) -> str:
        """Return the `Range` header, limited to the first `limit` bytes; 0: no limit."""
        last = self.last
        if limit:
            furthest = limit if self.first is None else self.first + limit - 1
            last = furthest if last is None else min(last, furthest)
        return f"bytes={'' if self.first is None else self.first}-{'' if last is None else last}"

    def is_met_by(self, content_range: str) -> bool:
        """Return whether a response with this `Content-Range` contains the whole range, as far as it exists."""
        match = _CONTENT_RANGE.fullmatch(content_range)
        assert match is not None, content_range  # noqa: S101 - sent by the storage
        first, last, size = (int(match[name]) for name in ("first", "last", "size"))
        if self.first is None:
            return first <= max(0, size - (self.last or 0))
        return last >= min(size - 1 if self.last is None else self.last, size - 1)


WHOLE = Span(0, None)
