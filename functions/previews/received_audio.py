"""The audio of a job as it is received from the worker, for a request that streams it."""

import hashlib
from collections import deque

from pipeline.contract.messages.stream_messages import AudioChunk, StreamMessage, decode_pcm

# About 20 seconds of audio: for a slow client, audio beyond this is read from the storage at the end.
BUFFER_MAX_BYTES = 1024 * 1024


class ReceivedAudio:
    """Mono 16-bit samples in order, without duplicates, all of one take.

    If a chunk was lost, or the take was replaced after some of its samples were returned, no more samples follow,
    and `is_interrupted` is true.
    """

    def __init__(self) -> None:
        self.sample_rate = 0
        self.seconds = 0.0
        self.is_started = False
        self.is_interrupted = False
        self.returned_bytes = 0
        self._digest = hashlib.sha256()
        self._take: str | None = None
        self._next_seq = 0
        self._buffer: deque[bytes] = deque()
        self._buffered = 0

    def add(self, message: StreamMessage) -> None:
        """Add a message of the worker."""
        if message.take != self._take:
            self._begin(message.take)
        if isinstance(message, AudioChunk) and not self.is_interrupted:
            self._add_chunk(message)

    @property
    def has_news(self) -> bool:
        """Whether samples are available."""
        return bool(self._buffer)

    def take(self) -> bytes:
        """Return the samples received since the last call; only their digest is kept."""
        samples = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self.returned_bytes += len(samples)
        self._digest.update(samples)
        return samples

    def is_all_of(self, take: str | None, seconds: float) -> bool:
        """Return whether all samples of a take of this length were returned. `take` is None if it is not known."""
        returned = self.returned_bytes / 2 / self.sample_rate
        return not self.is_interrupted and take == self._take and abs(returned - seconds) < 0.001

    def is_beginning_of(self, samples: bytes) -> bool:
        """Return whether these samples begin with all those that were returned."""
        return hashlib.sha256(samples[: self.returned_bytes]).digest() == self._digest.digest()

    def _begin(self, take: str) -> None:
        self.is_started = True
        self._take = take
        self._next_seq = 0
        self._buffer.clear()
        self._buffered = 0
        if self.returned_bytes:
            self.is_interrupted = True

    def _add_chunk(self, chunk: AudioChunk) -> None:
        if chunk.seq < self._next_seq:
            return  # a worker that restarted generates the same audio
        samples = decode_pcm(chunk.audio)
        if chunk.seq > self._next_seq or self._buffered + len(samples) > BUFFER_MAX_BYTES:
            self.is_interrupted = True
            return
        self._next_seq += 1
        self.sample_rate, self.seconds = chunk.sample_rate, chunk.audio_seconds
        self._buffer.append(samples)
        self._buffered += len(samples)
