"""A program that decodes one audio file from stdin to a WAV on stdout, with FFmpeg's decoders (PyAV).

`ffmpeg_decoder` runs it as a separate process.  FFmpeg's demuxers allocate as much memory as a file declares, so
the system limits the memory and the CPU time of the process.  It imports nothing of this project.

Usage: `python ffmpeg_child.py CONTAINER MAX_SECONDS MAX_BYTES MEMORY_BYTES CPU_SECONDS`
"""

import io
import resource
import struct
import sys
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

CODECS = "aac,alac,flac,mp3,mp3float,opus,libopus,vorbis"
TRUNCATED = 3  # exit status


def main(container: str, max_seconds: float, max_bytes: int) -> int:
    """Decode stdin. Return the exit status."""
    av.logging.set_level(av.logging.PANIC)
    options = {
        "format_whitelist": container,
        "codec_whitelist": CODECS,
        "protocol_whitelist": "",
        "max_streams": "16",
        "analyzeduration": "2000000",
    }
    with av.open(io.BytesIO(sys.stdin.buffer.read()), "r", format=container, options=options) as file:
        for stream in file.streams.audio:
            if stream.codec_context.name in CODECS.split(","):
                stream.codec_context.thread_count = 1
                return decode(file, stream, max_seconds, max_bytes)
    return 1


def decode(file: "InputContainer", stream: "AudioStream", max_seconds: float, max_bytes: int) -> int:
    """Write a stream to stdout, up to the first frame that exceeds a limit. Return the exit status."""
    resampler, room, status = None, 0, 1
    try:
        for packet in file.demux(stream):
            for frame in stream.decode(packet):
                channels = len(frame.layout.channels)
                if resampler is None:
                    resampler = av.AudioResampler("s16", frame.layout, frame.sample_rate)
                    room = min(max_bytes, int(max_seconds * frame.sample_rate) * channels * 2)
                    status = 0
                    sys.stdout.buffer.write(header(frame.sample_rate, channels))
                for converted in resampler.resample(frame):
                    body = bytes(converted.planes[0])[: converted.samples * channels * 2]
                    room -= sys.stdout.buffer.write(body)
                if room < 0:
                    return status
            if packet.is_corrupt:
                status = TRUNCATED
    except av.error.InvalidDataError:
        return TRUNCATED
    return status


def header(sample_rate: int, channels: int) -> bytes:
    """Return the header of a 16-bit WAV of unknown length."""
    unknown = 0xFFFFFFFF
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", unknown, b"WAVE", b"fmt ", 16, 1, channels, sample_rate,
        sample_rate * channels * 2, channels * 2, 16, b"data", unknown,
    )  # fmt: skip


if __name__ == "__main__":
    memory, cpu_seconds = int(sys.argv[4]), int(sys.argv[5])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
