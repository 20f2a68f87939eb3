"""The messages that a worker sends directly to a job's subscribers while it generates the audio.

They are sent at most once and in order. Only the outcome states how the job ended.  A job that is retried is
streamed again from the beginning.  Chunks with the same `take` and `seq` are the same audio, so a client ignores
duplicates. When `take` changes, it discards the received chunks.
"""

from base64 import b64decode, b64encode
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.contract.records import Record

# About 26 KB per message at 24 kHz: API Gateway limits frames to 32 KB.
CHUNK_MAX_SECONDS = 0.4


class _StreamData(Record):
    job_id: str
    request_id: str | None = None
    take: str


class StreamStarted(_StreamData):
    """A worker has begun the job. `restarted`: an earlier attempt may have sent audio already."""

    status: Literal["started"] = "started"
    restarted: bool = False


class AudioProgress(_StreamData):
    """How much audio has been made, for a subscriber that does not receive the audio."""

    status: Literal["generating"] = "generating"
    audio_seconds: float


class AudioChunk(_StreamData):
    """A part of the audio, numbered consecutively. A lost message leaves a gap."""

    seq: int
    format: Literal["pcm_s16le"] = "pcm_s16le"
    sample_rate: int
    audio_seconds: float
    """The length of all audio up to the end of this chunk."""
    audio: str
    """Mono samples, base64."""


StreamMessage = StreamStarted | AudioProgress | AudioChunk


def stream_message(data: StreamMessage) -> bytes:
    """Return the WebSocket message as UTF-8 JSON."""
    type_ = "tts_audio" if isinstance(data, AudioChunk) else "progress"
    return b'{"type":"%b","data":%b}' % (type_.encode(), data.to_json())


def parse_stream_message(body: bytes) -> StreamMessage | None:
    """Parse the output of `stream_message`. Return None for anything else."""
    try:
        return _MESSAGE.validate_json(body).data
    except ValidationError:
        return None


class _Progress(Record):
    type: Literal["progress"]
    data: Annotated[StreamStarted | AudioProgress, Field(discriminator="status")]


class _Audio(Record):
    type: Literal["tts_audio"]
    data: AudioChunk


_MESSAGE: TypeAdapter[_Progress | _Audio] = TypeAdapter(
    Annotated[_Progress | _Audio, Field(discriminator="type")], config=ConfigDict(defer_build=True)
)


def decode_pcm(audio: str) -> bytes:
    """Return the samples of `AudioChunk.audio`."""
    return b64decode(audio)


def encode_pcm(pcm: bytes) -> str:
    """Encode little-endian 16-bit samples for `AudioChunk.audio`."""
    return b64encode(pcm).decode("ascii")
