"""Decoding of M4A, WebM and AAC files to WAV, by FFmpeg in a process with limited memory and time."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.audio.formats import Container, unreadable
from pipeline.audio.wav_sizes import Truncated
from pipeline.settings import Settings

_PROGRAM = Path(__file__).with_name("ffmpeg_child.py")
_TRUNCATED = 3
_BASE_MEMORY_BYTES = 512 * 1024 * 1024  # address space, of which Python and FFmpeg use about 300 MiB
_BASE_CPU_SECONDS = 10
_AUDIO_SECONDS_PER_CPU_SECOND = 20  # it decodes several hundred seconds of AAC in a second
_WAIT_FACTOR = 3  # the process may have to wait for a CPU
_SEGMENT = b"\x18\x53\x80\x67"  # the element of Matroska that contains all others


def to_wav(data: bytes, container: Container, settings: Settings, *, max_samples_per_second: int) -> bytes:
    """Return the audio as a 16-bit WAV of unknown length, a little longer than allowed if it is too long.

    Raises
    ------
    InvalidAudio
        The file can't be decoded within the limits.
    Truncated
        The file ends early.
    """
    if container == "matroska" and _is_cut_short(data):
        raise Truncated
    seconds = settings.reference_max_seconds + 1
    max_bytes = int(seconds * max_samples_per_second * 2)
    memory_bytes = _BASE_MEMORY_BYTES + 3 * len(data)
    cpu_seconds = int(_BASE_CPU_SECONDS + seconds / _AUDIO_SECONDS_PER_CPU_SECOND)
    limits = [str(limit) for limit in (seconds, max_bytes, memory_bytes, cpu_seconds)]
    try:
        done = subprocess.run(  # noqa: S603 - the program is ours, and the file is its stdin
            [sys.executable, "-I", _PROGRAM, container, *limits],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            timeout=_WAIT_FACTOR * cpu_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise unreadable() from error
    if done.returncode == _TRUNCATED:
        raise Truncated
    if done.returncode:
        raise unreadable()
    return done.stdout


def _environment() -> dict[str, str]:
    """Return the environment of the process, without this process's credentials."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}


def _is_cut_short(data: bytes) -> bool:
    """Return whether a Matroska file is shorter than its segment. Recordings may declare no size (RFC 9559)."""
    start = data.find(_SEGMENT, 0, 1024) + len(_SEGMENT)
    if start < len(_SEGMENT) or start >= len(data) or data[start] == 0:
        return False
    width = 9 - data[start].bit_length()
    size = int.from_bytes(data[start : start + width]) & ((1 << 7 * width) - 1)
    return size != (1 << 7 * width) - 1 and start + width + size > len(data)
