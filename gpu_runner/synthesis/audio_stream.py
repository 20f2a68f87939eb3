"""Sends a job's audio to its maker while it is made; see `pipeline.contract.stream_messages`."""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from pipeline.audio.reference_audio import Recording, Samples, encode_wav
from pipeline.clients.connections import Connections
from pipeline.contract.records import Subscriber
from pipeline.contract.stream_messages import AudioChunk, StreamStarted, encode_pcm, stream_message
from pipeline.errors import ConnectionGone, Unavailable

FIRST_CHUNKS_SECONDS = (0.08, 0.08, 0.16)  # short, so that playback starts early
CHUNK_SECONDS = 0.32
BUFFER_MESSAGES = 64  # about 20 s of audio
POST_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Take:
    """One making of a job's audio; those with the same `name` are the same to the sample."""

    job_id: str
    name: str
    sample_rate: int
    restarted: bool


class AudioStream:
    """The audio of one job on its way to its maker.

    Nothing here waits for the client but `close`, and that not for long: what a slow client has not taken is
    buffered up to `BUFFER_MESSAGES` and then left out.
    """

    def __init__(self, connections: Connections, subscriber: Subscriber, take: Take) -> None:
        self._connections = connections
        self._subscriber = subscriber
        self._take = take
        self._chunks = Chunks(take.sample_rate)
        self._buffer: deque[StreamStarted | AudioChunk] = deque()
        self._added = asyncio.Event()
        self._is_complete = self._is_closed = False
        self._omitted = 0
        self._append(StreamStarted(**self._common(), restarted=take.restarted))
        self._sending = asyncio.create_task(self._send_until_complete())

    def add(self, samples: Samples) -> None:
        """Send the next samples (mono float32) in order."""
        for chunk in self._chunks.add(samples):
            self._append_chunk(chunk)

    async def close(self) -> None:
        """Send what is left, for `CLOSE_TIMEOUT_SECONDS` at most; nothing is sent after that."""
        for chunk in self._chunks.flush():
            self._append_chunk(chunk)
        self._is_complete = True
        self._added.set()
        try:
            await asyncio.wait([self._sending], timeout=CLOSE_TIMEOUT_SECONDS)
        finally:
            self.abort()

    def abort(self) -> None:
        """Send nothing more; idempotent."""
        self._sending.cancel()
        if not self._is_closed and (omitted := self._omitted + len(self._buffer)):
            log.info("client too slow, audio left out of its stream", messages=omitted)
        self._close()

    def _close(self) -> None:
        self._is_closed = True
        self._buffer.clear()

    def _append_chunk(self, chunk: "Chunk") -> None:
        self._append(
            AudioChunk(
                **self._common(),
                seq=chunk.seq,
                sample_rate=self._take.sample_rate,
                audio_seconds=round(chunk.end / self._take.sample_rate, 3),
                audio=encode_pcm(to_pcm(chunk.samples)),
            )
        )

    def _common(self) -> dict[str, Any]:
        return {"job_id": self._take.job_id, "take": self._take.name, "request_id": self._subscriber.request_id}

    def _append(self, message: StreamStarted | AudioChunk) -> None:
        if self._is_closed:
            return
        if len(self._buffer) >= BUFFER_MESSAGES:
            self._omitted += 1
            return
        self._buffer.append(message)
        self._added.set()

    async def _send_until_complete(self) -> None:
        while True:
            while self._buffer:
                await self._post(self._buffer.popleft())
            if self._is_complete:
                return
            self._added.clear()
            await self._added.wait()

    async def _post(self, message: StreamStarted | AudioChunk) -> None:
        try:
            async with asyncio.timeout(POST_TIMEOUT_SECONDS):
                await self._connections.post(self._subscriber.reply_to, stream_message(message))
        except ConnectionGone:
            self._close()
        except (Unavailable, TimeoutError):
            self._omitted += 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples of a stream; `end` is the number of samples up to and with its last."""

    seq: int
    samples: Samples
    end: int


class Chunks:
    """Cuts audio at the same samples, in whatever pieces it comes: so chunks of equal audio are equal."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._samples: Samples = np.zeros(0, np.float32)
        self._seq = 0
        self._end = 0

    def add(self, samples: Samples) -> Iterator[Chunk]:
        """Yield the chunks that are complete with these samples."""
        self._samples = np.concatenate([self._samples, samples])
        while len(self._samples) >= (size := self._size()):
            yield self._cut(size)

    def flush(self) -> Iterator[Chunk]:
        """Yield what is left, if anything is."""
        if len(self._samples):
            yield self._cut(len(self._samples))

    def _cut(self, size: int) -> Chunk:
        chunk, self._samples = self._samples[:size], self._samples[size:]
        self._end += size
        self._seq += 1
        return Chunk(self._seq - 1, chunk, self._end)

    def _size(self) -> int:
        seconds = FIRST_CHUNKS_SECONDS[self._seq] if self._seq < len(FIRST_CHUNKS_SECONDS) else CHUNK_SECONDS
        return round(seconds * self._sample_rate)


def to_pcm(samples: Samples) -> bytes:
    """Return the samples as in the stored WAV: little-endian, 16 bits."""
    wav = encode_wav(Recording(samples, sample_rate=8000))
    return wav[len(wav) - 2 * len(samples) :]
