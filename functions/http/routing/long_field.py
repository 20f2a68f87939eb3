"""One field of a JSON body that may be long: found in the raw bytes, so that it is never parsed as JSON.

The value is a string without escaped quotes, such as base64. Everything else in the body has the limit of a small
body. This bounds the number of Python objects that a body can create.
"""

import hashlib
import re
from dataclasses import dataclass

# Escapes in base64: PHP escapes `/`, .NET escapes `+`, and `\n` separates lines.
_ESCAPES = {rb"\/": b"/", rb"\u002B": b"+", rb"\u002b": b"+", rb"\n": b"", rb"\r": b"", rb"\t": b""}
_SHORT_BYTES = 1024
_SPACES = rb"[ \t\r\n]{0,16}"
_START_MAX_BYTES = 100


def _start_of(name: str) -> re.Pattern[bytes]:
    # A quote after `:` always opens a string here. If it closed one, the bytes before it would not be valid JSON.
    return re.compile(rb'"%b"%b:%b"' % (re.escape(name.encode()), _SPACES, _SPACES))


class OtherBytes:
    """Counts the bytes of a JSON text outside of the first value of a field, as they are received."""

    def __init__(self, name: str) -> None:
        self.count = 0
        self._start: re.Pattern[bytes] | None = _start_of(name)
        self._recent = b""
        self._is_inside = False

    def add(self, data: bytes) -> None:
        """Count the next bytes."""
        if self._start is not None:
            recent = self._recent + data
            if (start := self._start.search(recent)) is None:
                self._recent = recent[-_START_MAX_BYTES:]
                self.count += len(data)
                return
            self._start, self._is_inside = None, True
            before = start.end() - len(self._recent)
            self.count += before
            data = data[before:]
        if self._is_inside:
            end = data.find(b'"')
            if end < 0:
                return
            self._is_inside = False
            data = data[end:]
        self.count += len(data)


@dataclass(frozen=True, slots=True)
class SplitBody:
    """A JSON text with a digest in place of the long value.  Texts with equal values have equal digests."""

    json: bytes
    digest: str
    value: bytes


def split_body(body: bytes, name: str) -> SplitBody | None:
    """Cut the first value of a field out of a JSON text; return None if there is none, or if it is short."""
    start = _start_of(name).search(body)
    end = body.find(b'"', start.end()) if start else -1
    if start is None or end - start.end() < _SHORT_BYTES:
        return None
    value = body[start.end() : end]
    digest = f"sha256:{hashlib.sha256(value).hexdigest()}"
    return SplitBody(body[: start.end()] + digest.encode() + body[end:], digest, value)


def unescape(value: bytes) -> str:
    """Return the text of a value.  Escapes that base64 does not need are not changed, nor are very many."""
    if 0 < value.count(b"\\") <= len(value) // 8:
        for escape, text in _ESCAPES.items():
            value = value.replace(escape, text)
    return value.decode("latin-1")
