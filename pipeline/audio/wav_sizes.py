"""The size that a WAV file declares for its samples, where it is not that of the samples that follow.

Programs that write to a pipe don't know the size when they write the header.  They write 0, 0xFFFFFFFF, or another
large number.  libsndfile would read no samples, or take the number for the length.
"""

import struct
from dataclasses import dataclass

MAGIC = (b"RIFF", b"RF64")
_UNKNOWN_MIN = 0x3FFFFFFF
_TOLERANCE_BYTES = 64  # some programs count the header too
_BLOCK_MAX = 4096


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes of a file that are replaced when it is read."""

    position: int
    body: bytes


class Truncated(Exception):
    """The file ends before the end of its samples."""


def size_patch(data: bytes, max_bytes: int) -> Patch | None:
    """Return the correction of the declared size, or None if the size is right or there is none.

    Parameters
    ----------
    data
        The file.
    max_bytes
        A size above it can't be meant, since the file would have been too large.

    Raises
    ------
    Truncated
        More than a frame is missing.
    """
    position, block, long_size, long_size_at = 12, 1, 0, 0
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        start = position + 8
        if name == b"fmt " and start + 14 <= len(data):
            block = struct.unpack_from("<H", data, start + 12)[0]
        elif name == b"ds64" and start + 16 <= len(data):
            long_size_at = start + 8
            long_size = struct.unpack_from("<Q", data, long_size_at)[0]
        elif name == b"data":
            is_long = long_size_at > 0 and size == 0xFFFFFFFF
            right = _right_size(data, start, long_size if is_long else size, block, max_bytes)
            if right is None:
                return None
            at, format_ = (long_size_at, "<Q") if is_long else (start - 4, "<I")
            return Patch(at, struct.pack(format_, right))
        position = start + size + size % 2
    return None


def _right_size(data: bytes, start: int, declared: int, block: int, max_bytes: int) -> int | None:
    available = len(data) - start
    if declared == 0:
        return None if _are_chunks(data, start) else available
    missing = declared - available
    if missing <= 0:
        return None
    if declared > max_bytes or declared >= _UNKNOWN_MIN or missing <= max(_TOLERANCE_BYTES, min(block, _BLOCK_MAX)):
        return available
    raise Truncated


def _are_chunks(data: bytes, position: int) -> bool:
    """Return whether only whole chunks follow: the file has no samples."""
    while position + 8 <= len(data) and data[position : position + 4].isascii():
        size = struct.unpack_from("<I", data, position + 4)[0]
        position += 8 + size + size % 2
    return position >= len(data) >= position - 1
