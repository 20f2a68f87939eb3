"""Streaming of a preview while it is generated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from functions.previews.completion_waiters import CompletionWaiters, Waiter
from functions.previews.received_audio import ReceivedAudio
from pipeline import deadlines
from pipeline.audio.output_formats import Encoder, OutputFormat, encoder, read_wav
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Outcome, Succeeded
from pipeline.domain import jobs
from pipeline.errors import PipelineError

log = structlog.get_logger(__name__)

_LIGHT_FORMATS = {"wav", "pcm"}  # need almost no CPU time


class StreamAborted(Exception):
    """The audio can't be continued: the connection is closed before its end, which the client detects."""


class StreamedPreview(StreamingResponse):
    """The response that is sent while a job generates its audio; closes `waiting` at its end."""

    def __init__(self, pieces: AsyncIterator[bytes], waiting: ExitStack, seconds: float, media_type: str) -> None:
        super().__init__(pieces, media_type=media_type)
        self._waiting = waiting
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, within the deadline of a job."""
        with self._waiting, deadlines.within(self._seconds):
            await super().__call__(scope, receive, send)


class AudioPieces:
    """The parts of a file that grows while a job generates its audio."""

    def __init__(
        self, resources: Resources, waiters: CompletionWaiters, waiter: Waiter, job_id: str, format_: OutputFormat
    ) -> None:
        self._resources = resources
        self._waiters = waiters
        self._waiter = waiter
        self._job_id = job_id
        self._format = format_

    async def pieces(self, audio: ReceivedAudio) -> AsyncIterator[bytes]:
        """Yield the parts as they arrive.

        Raises
        ------
        StreamAborted
            The rest of the same audio is not available.
        """
        encoder_ = encoder(self._format, audio.sample_rate)
        while await self._is_more(audio):
            yield await self._encoded(encoder_, audio.take())
        rest = await self._rest(audio)
        yield await self._encoded(encoder_, rest) + encoder_.finish()

    async def _is_more(self, audio: ReceivedAudio) -> bool:
        """Wait for samples; return False if the job has ended and all of them have been read."""
        if not self._waiter.is_ready and not await self._waiters.wait(
            self._waiter, self._job_id, self._resources.settings.job_deadline.total_seconds()
        ):
            raise StreamAborted("the job did not end in time, or the service stops")
        return audio.has_news

    async def _encoded(self, encoder_: Encoder, samples: bytes) -> bytes:
        if self._format.name in _LIGHT_FORMATS and self._format.speed == 1:
            return encoder_.encode(samples)
        return await asyncio.to_thread(encoder_.encode, samples)

    async def _rest(self, audio: ReceivedAudio) -> bytes:
        """Return the samples that were not received, from the stored audio if it is the same."""
        outcome = await self._outcome()
        if not isinstance(outcome, Succeeded) or outcome.preview is None:
            raise StreamAborted("the job failed")
        seconds = audio.given_bytes / 2 / audio.sample_rate
        if not audio.is_interrupted and abs(seconds - outcome.preview.duration_seconds) < 0.001:
            return b""
        wav = await self._resources.bucket.get(layout.preview(self._job_id))
        samples = read_wav(wav)[1] if wav else b""
        if len(samples) < audio.given_bytes or not audio.is_beginning_of(samples):
            raise StreamAborted("the job was made anew, and is other audio now")
        return samples[audio.given_bytes :]

    async def _outcome(self) -> Outcome | None:
        if self._waiter.completion:
            return self._waiter.completion.outcome
        try:
            return await jobs.read_outcome(self._resources, self._job_id)
        except PipelineError as error:
            raise StreamAborted("the outcome can't be read") from error
