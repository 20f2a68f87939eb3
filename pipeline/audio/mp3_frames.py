"""Preparation of MP3 files for libsndfile, which decodes only as many frames as a header declares.

Many files have no header with the number of frames, or a wrong one: those of encoders that write to a pipe, and
several files that were joined.  libsndfile then estimates the length from the bit rate.  So the frames are counted
here, and a header with their number is put before them.  What is not a frame is left out: tags, padding, and the
headers of joined files.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

# kbit/s of layer III, by the index in the frame header: MPEG 1, and MPEG 2 and 2.5 (ISO 11172-3, 13818-3).
_BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_FRAMES_FLAG = 1
# Tags, and positions that look like a frame and are none: more of them make the file unreadable, to bound the time.
_INTERRUPTIONS_MAX = 20_000
_LEADING_TAGS_MAX = 16
_SEARCHED_BYTES = 8192


class NoFrames(Exception):
    """The file has no MP3 frames, or too much of it is something else."""


@dataclass(frozen=True, slots=True)
class Mp3Part:
    """Consecutive frames of one sample rate and number of channels, as a file that libsndfile decodes."""

    data: bytes
    sample_rate: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Mp3File:
    """The parts of a file, and the length that its headers declare, if that is longer."""

    parts: list[Mp3Part]
    missing_seconds: float


@dataclass(frozen=True, slots=True)
class _Frame:
    start: int
    length: int
    samples: int
    sample_rate: int
    channels: int
    version: int

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def format(self) -> tuple[int, int, int]:
        return self.version, self.sample_rate, self.channels


def skip_tags(data: bytes) -> int:
    """Return the position after the zeros and ID3v2 tags that a file begins with."""
    position = 0
    for _ in range(_LEADING_TAGS_MAX):
        position = _after_zeros(data, position)
        end = _after_tag(data, position)
        if end == position:
            break
        position = end
    return position


def has_frames(data: bytes) -> bool:
    """Return whether consecutive frames begin near the start of a file, such as that of a recorded stream."""
    return any(
        (frame := _frame_at(data, found.start()))
        and (following := _frame_at(data, frame.end))
        and following.format == frame.format
        and _is_followed(data, following)
        for found in _SYNC.finditer(data, skip_tags(data), skip_tags(data) + _SEARCHED_BYTES)
    )


def prepare(data: bytes, max_seconds: float) -> Mp3File:
    """Return the frames of a file in parts that libsndfile decodes completely.

    Counting stops as soon as the frames are longer than `max_seconds`.

    Raises
    ------
    NoFrames
        There are no frames, or too many bytes only look like frames.
    """
    parts: list[list[_Frame]] = []
    headers: list[tuple[_Frame, int]] = []
    declared, seconds = 0.0, 0.0
    for frame in _frames(data):
        count = _declared_frames(data, frame)
        if count is not None:
            headers.append((frame, count))
            declared += count * frame.samples / frame.sample_rate
        else:
            if not parts or parts[-1][-1].format != frame.format:
                parts.append([])
            parts[-1].append(frame)
            seconds += frame.samples / frame.sample_rate
        if max(declared, seconds) > max_seconds:
            return Mp3File([Mp3Part(b"", frame.sample_rate, max(declared, seconds))], 0)
    if not parts:
        raise NoFrames
    if len(headers) == len(parts) == 1:
        header, count = headers[0]
        if count == len(parts[0]) and header.end == parts[0][0].start:
            # The file's own header is right. It also declares the silence that the encoder added.
            return Mp3File([_part(data, parts[0], data[header.start : header.end])], 0)
    made = [_part(data, frames, _info_frame(data, frames[0], len(frames))) for frames in parts]
    return Mp3File(made, max(0, declared - seconds))


def _part(data: bytes, frames: list[_Frame], header: bytes) -> Mp3Part:
    first, seconds = frames[0], sum(frame.samples for frame in frames) / frames[0].sample_rate
    runs, start = [], first.start
    for before, frame in pairwise(frames):
        if frame.start != before.end:
            runs.append(data[start : before.end])
            start = frame.start
    runs.append(data[start : frames[-1].end])
    return Mp3Part(header + b"".join(runs), first.sample_rate, seconds)


def _frames(data: bytes) -> Iterator[_Frame]:
    """Yield the complete frames in order."""
    position, interruptions = skip_tags(data), 0
    is_synchronized = False
    while position < len(data):
        frame = _frame_at(data, position)
        if frame and (is_synchronized or _is_followed(data, frame)):
            if frame.end > len(data):  # the last one is incomplete
                return
            yield frame
            position, is_synchronized = frame.end, True
            continue
        is_synchronized = False
        interruptions += 1
        if interruptions > _INTERRUPTIONS_MAX:
            raise NoFrames
        after = _after_tag(data, position)
        if after == position:
            found = _SYNC.search(data, position + 1)
            after = found.start() if found else len(data)
        position = after


def _is_followed(data: bytes, frame: _Frame) -> bool:
    """Return whether another frame of the same format follows, or the file ends here."""
    following = _frame_at(data, frame.end)
    if following is not None:
        return following.format[:2] == frame.format[:2]
    return frame.end == len(data) or _after_tag(data, frame.end) > frame.end


def _frame_at(data: bytes, position: int) -> _Frame | None:
    header = data[position : position + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version = {3: 1, 2: 2, 0: 4}.get(header[1] >> 3 & 3)  # the divisor of the sample rate
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version is None or bit_rate in {0, 15} or rate == 3:
        return None
    sample_rate = _RATES[rate] // version
    samples = 1152 if version == 1 else 576
    length = samples // 8 * _BIT_RATES[min(version, 2)][bit_rate] * 1000 // sample_rate + (header[2] >> 1 & 1)
    return _Frame(position, length, samples, sample_rate, 1 if header[3] >> 6 == 3 else 2, version)


def _side_bytes(frame: _Frame) -> int:
    """Return the size of the side information, which is between a frame's header and its data."""
    if frame.version == 1:
        return 17 if frame.channels == 1 else 32
    return 9 if frame.channels == 1 else 17


def _declared_frames(data: bytes, frame: _Frame) -> int | None:
    """Return the number of frames that a header declares (0 if it declares none), or None for a frame of audio."""
    start = frame.start + 4 + _side_bytes(frame)
    if data[start : start + 4] in {b"Xing", b"Info"}:
        flags, frames = struct.unpack(">II", data[start + 4 : start + 12].ljust(8, b"\0"))
        return int(frames) if flags & _FRAMES_FLAG else 0
    start = frame.start + 36
    if data[start : start + 4] == b"VBRI" and start + 18 <= frame.end:
        return int(struct.unpack_from(">I", data, start + 14)[0])
    return None


def _info_frame(data: bytes, first: _Frame, frames: int) -> bytes:
    """Return a silent frame that declares the number of frames that follow."""
    header = bytearray(data[first.start : first.start + 4])
    header[1] |= 1  # without a checksum
    header[2] = header[2] & 0x0C | 0xE0  # the highest bit rate, so that there is room, without padding
    made = _frame_at(bytes(header), 0)
    if made is None:
        raise NoFrames
    declared = b"Info" + struct.pack(">II", _FRAMES_FLAG, frames)
    return (bytes(header) + bytes(_side_bytes(made)) + declared).ljust(made.length, b"\0")


def _after_zeros(data: bytes, position: int) -> int:
    found = re.compile(rb"[^\0]").search(data, position)
    return found.start() if found else len(data)


def _after_tag(data: bytes, position: int) -> int:
    """Return the position after an ID3 or APE tag, or the same position if there is none."""
    if data.startswith(b"ID3", position) and position + 10 <= len(data):
        a, b, c, d = (byte & 0x7F for byte in data[position + 6 : position + 10])
        return position + 10 + (a << 21 | b << 14 | c << 7 | d)
    if data.startswith(b"TAG", position):
        return position + 128
    if data.startswith(b"APETAGEX", position) and position + 32 <= len(data):
        return position + 32 + int(struct.unpack_from("<I", data, position + 12)[0])
    return position
