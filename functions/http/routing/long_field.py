"""One field of a JSON body that may be long: found in the raw bytes, so that it is never parsed as JSON.

The value is a string without escaped quotes, such as base64. Everything else in the body has the limit of a small
body. This bounds the number of Python objects that a body can create. A long value is kept in a temporary file.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile

# Escapes in base64: PHP escapes `/`, .NET escapes `+`, and `\n` separates lines.
_ESCAPES = {rb"\/": b"/", rb"\u002B": b"+", rb"\u002b": b"+", rb"\n": b"", rb"\r": b"", rb"\t": b""}
_ESCAPE_MAX = 6
_LONG_BYTES = 64 * 1024
_MEMORY_BYTES = 1024 * 1024
_STEP = 1024 * 1024
_SPACES = rb"[ \t\r\n]{0,16}"
_START_MAX = 100


class FieldSplitter:
    """Splits a JSON text, as it is received, into the first value of a field and the bytes around it."""

    def __init__(self, name: str) -> None:
        # The last quote opens a string. If it closed one, the bytes before it would not be valid JSON.
        pattern = rb'"%b"%b:%b"' % (re.escape(name.encode()), _SPACES, _SPACES)
        self._start: re.Pattern[bytes] | None = re.compile(pattern)
        self._recent = b""
        self._is_inside = False

    def feed(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """Return the parts of the next bytes that are before the value, in the value, and after it."""
        before = b""
        if self._start is not None:
            recent = self._recent + data
            if (start := self._start.search(recent)) is None:
                self._recent = recent[-_START_MAX:]
                return data, b"", b""
            length = start.end() - len(self._recent)
            before, data = data[:length], data[length:]
            self._start, self._is_inside = None, True
        if not self._is_inside:
            return before, b"", data
        end = data.find(b'"')
        if end < 0:
            return before, data, b""
        self._is_inside = False
        return before, data[:end], data[end:]


class LongValue:
    """The raw JSON string of a long value, without its quotes."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 - closed with the request
        self._digest = hashlib.sha256()
        self.length = 0

    def add(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.length += len(data)

    @property
    def digest(self) -> str:
        """A string that stands for the value in the JSON text.  Equal values have equal digests."""
        return f"sha256:{self._digest.hexdigest()}"

    def raw(self) -> bytes:
        """Return the whole value."""
        self._file.seek(0)
        return self._file.read()

    def steps(self) -> Iterator[bytes]:
        """Yield the text in steps.  Escapes that base64 does not need are not changed."""
        self._file.seek(0)
        rest = b""
        while step := self._file.read(_STEP):
            step = rest + step
            escape = step.rfind(b"\\", max(0, len(step) - _ESCAPE_MAX))  # it may continue in the next step
            step, rest = (step, b"") if escape < 0 else (step[:escape], step[escape:])
            yield _unescaped(step)
        yield _unescaped(rest)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class SplitBody:
    """A JSON text with a digest in place of a long value; `value` is None if the value is short."""

    json: bytes
    value: LongValue | None


async def split_body(chunks: AsyncIterator[bytes], name: str) -> SplitBody:
    """Read a JSON text, and cut out the first value of a field if it is long."""
    splitter, value = FieldSplitter(name), LongValue()
    head, tail = bytearray(), bytearray()
    try:
        async for chunk in chunks:
            before, inside, after = splitter.feed(chunk)
            head += before
            value.add(inside)
            tail += after
        if value.length > _LONG_BYTES:
            return SplitBody(bytes(head) + value.digest.encode() + bytes(tail), value)
        json = bytes(head) + value.raw() + bytes(tail)
    except BaseException:
        value.close()
        raise
    value.close()
    return SplitBody(json, None)


def _unescaped(step: bytes) -> bytes:
    # More escapes than base64 needs would take long, and are not replaced.
    if 0 < step.count(b"\\") <= len(step) // 8 + _ESCAPE_MAX:
        for escape, text in _ESCAPES.items():
            step = step.replace(escape, text)
    return step
