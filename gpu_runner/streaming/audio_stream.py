"""Sends a job's audio, or its length, to subscribers while it is generated: see `stream_messages`."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gpu_runner.streaming.chunks import Chunk, Chunks, to_pcm
from gpu_runner.streaming.posts import Posts
from gpu_runner.streaming.sender import BUFFER_MESSAGES, Sender
from pipeline.audio.reference_audio import Samples
from pipeline.contract.messages.stream_messages import AudioChunk, AudioProgress, StreamStarted, encode_pcm
from pipeline.contract.records import Subscriber
from pipeline.ids import Clock

PROGRESS_INTERVAL = timedelta(seconds=1)
FIRST_CHUNKS = BUFFER_MESSAGES - 4  # about 19 s of audio, which fit in the buffer of a sender


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to generate a job's audio. Attempts with the same `name` give the same samples."""

    job_id: str
    name: str
    sample_rate: int
    restarted: bool


class AudioStream:
    """The audio stream of one job.

    A late subscriber receives what is generated from then on. An HTTP request that joins the job also receives the
    first chunks.
    """

    def __init__(self, posts: Posts, attempt: Attempt, clock: Clock) -> None:
        self._posts = posts
        self._attempt = attempt
        self._clock = clock
        self._chunks = Chunks(attempt.sample_rate)
        self._listeners: list[Sender] = []
        self._followers: list[Sender] = []
        """Subscribers that receive the length of the audio only."""
        self._first: list[AudioChunk] = []
        self._reported_at: datetime | None = None
        self.first_audio_at: datetime | None = None
        self.has_sent_audio = False

    @property
    def take(self) -> str:
        """The id of the audio in the messages."""
        return self._attempt.name

    def subscribe(self, subscriber: Subscriber) -> None:
        """Add a subscriber."""
        sender = Sender(self._posts, subscriber)
        sender.send(self._started())
        if subscriber.stream and subscriber.interface == "http":
            for message in self._first:
                sender.send(message)
        (self._listeners if subscriber.stream else self._followers).append(sender)

    def add(self, samples: Samples) -> None:
        """Send the next samples (mono float32) in order."""
        if self.first_audio_at is None:
            self.first_audio_at = self._clock()
        for chunk in self._chunks.add(samples):
            self._send(chunk)

    def restart(self, name: str) -> None:
        """Discard the audio so far and begin another attempt, whose take has this name."""
        self._attempt = replace(self._attempt, name=name, restarted=True)
        self._chunks = Chunks(self._attempt.sample_rate)
        self._reported_at = self.first_audio_at = None
        for sender in self._senders():
            sender.send(self._started())

    async def close(self) -> None:
        """Send the remaining messages, for one second at most."""
        for chunk in self._chunks.flush():
            self._send(chunk)
        await asyncio.gather(*(sender.close() for sender in self._senders()))

    def abort(self) -> None:
        """Send nothing more."""
        for sender in self._senders():
            sender.abort()

    def _started(self) -> StreamStarted:
        attempt = self._attempt
        return StreamStarted(job_id=attempt.job_id, take=self.take, restarted=attempt.restarted)

    def _senders(self) -> list[Sender]:
        return self._listeners + self._followers

    def _send(self, chunk: Chunk) -> None:
        audio_seconds = round(chunk.end / self._attempt.sample_rate, 3)
        if self._followers:
            self._report(audio_seconds)
        if not self._listeners:
            return
        self.has_sent_audio = True
        message = AudioChunk(
            job_id=self._attempt.job_id,
            take=self.take,
            seq=chunk.seq,
            sample_rate=self._attempt.sample_rate,
            audio_seconds=audio_seconds,
            audio=encode_pcm(to_pcm(chunk.samples)),
        )
        if chunk.seq == len(self._first) < FIRST_CHUNKS:
            self._first.append(message)
        for sender in self._listeners:
            sender.send(message)

    def _report(self, audio_seconds: float) -> None:
        """Send the length of the audio, at most once per `PROGRESS_INTERVAL`."""
        now = self._clock()
        if self._reported_at is not None and now - self._reported_at < PROGRESS_INTERVAL:
            return
        self._reported_at = now
        message = AudioProgress(job_id=self._attempt.job_id, take=self.take, audio_seconds=audio_seconds)
        for sender in self._followers:
            sender.send(message)
