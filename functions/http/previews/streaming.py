"""Streaming of a preview while it is generated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from functions.http.services import Services
from functions.previews.completion_waiters import Waiter
from functions.previews.received_audio import ReceivedAudio
from pipeline.audio.output_formats import OutputFormat, encoder
from pipeline.audio.wav import read_wav
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Succeeded
from pipeline.domain import jobs
from pipeline.errors import PipelineError
from pipeline.ids import Owner

ResultT = TypeVar("ResultT")

log = structlog.get_logger(__name__)

_CANCEL_SECONDS = 10.0


class StreamAborted(Exception):
    """The audio can't be continued: the connection is closed before its end, which the client detects."""


class StreamedPreview(StreamingResponse):
    """The response that is sent while a job generates its audio; closes `registered` at its end.

    `on_disconnect` is called if the client disconnects before the end of the audio.
    """

    on_disconnect: Callable[[], Awaitable[None]] | None = None

    def __init__(
        self, chunks: AsyncIterator[bytes], registered: AsyncExitStack, seconds: float, media_type: str
    ) -> None:
        super().__init__(chunks, media_type=media_type)
        self._registered = registered
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, within the deadline of a job."""
        is_complete = is_disconnected = False
        chunks = self.body_iterator

        async def complete() -> AsyncIterator[str | bytes | memoryview]:
            nonlocal is_complete
            async for chunk in chunks:
                yield chunk
            is_complete = True

        async def receive_disconnect() -> Message:
            nonlocal is_disconnected
            message = await receive()
            is_disconnected = is_disconnected or message["type"] == "http.disconnect"
            return message

        self.body_iterator = complete()
        with deadlines.within(self._seconds):
            async with self._registered:
                await super().__call__(scope, receive_disconnect, send)
        if is_disconnected and not is_complete and self.on_disconnect:
            await self.on_disconnect()


async def cancel_if_abandoned(services: Services, job_id: str, owner: Owner, *, after_seconds: float = 0) -> None:
    """Cancel the job of a client that has disconnected, unless another client waits for it or subscribed to it.

    `after_seconds` is the time for another client to do so.
    """
    resources = services.resources
    await asyncio.sleep(after_seconds)
    if services.waiters.is_awaited(job_id):
        return
    try:
        with deadlines.within(_CANCEL_SECONDS):
            async for _ in resources.bucket.list(layout.subscribers(job_id)):
                return
            await jobs.cancel(resources, owner, job_id)
    except PipelineError as error:
        log.warning("abandoned job not cancelled", job_id=job_id, reason=error.message)
    else:
        log.info("abandoned job cancelled", job_id=job_id)


async def encoded_stream(
    services: Services, waiter: Waiter, audio: ReceivedAudio, job_id: str, format_: OutputFormat
) -> AsyncIterator[bytes]:
    """Yield the encoded audio of a job as it arrives, to its end.

    Raises
    ------
    StreamAborted
        The rest of the same audio is not available.
    """
    try:
        resources, transcoder = services.resources, services.transcoder
        seconds = resources.settings.job_deadline.total_seconds()
        run = transcoder.run if format_.needs_encoding else _run_inline
        encoder_ = await run(encoder, format_, audio.sample_rate)

        async def encode(samples: bytes) -> bytes:
            if format_.needs_encoding:
                return await transcoder.encode(encoder_, samples, audio.sample_rate)
            return encoder_.encode(samples)

        while True:
            if not waiter.is_ready and not await services.waiters.wait(waiter, seconds):
                raise StreamAborted("the job did not end in time, or the service stops")
            if not audio.has_news:  # the job has ended
                break
            yield await encode(audio.take())
        rest = await _rest(resources, waiter, audio, job_id)
        yield await encode(rest) + await run(encoder_.finish)
    except PipelineError as error:  # the response has begun, so it can't state the error
        raise StreamAborted(error.message) from error


async def _run_inline(function: Callable[..., ResultT], *args: object) -> ResultT:
    return function(*args)


async def _rest(resources: Resources, waiter: Waiter, audio: ReceivedAudio, job_id: str) -> bytes:
    """Return the samples that were not received, from the stored audio if it begins with the received ones."""
    outcome = waiter.completion.outcome if waiter.completion else await jobs.read_outcome(resources, job_id)
    if not isinstance(outcome, Succeeded) or outcome.preview is None:
        raise StreamAborted("the job failed")
    if audio.is_all_of(outcome.take, outcome.preview.duration_seconds):
        return b""
    wav = await resources.bucket.get(layout.preview(job_id))
    samples = read_wav(wav)[1] if wav else b""
    if len(samples) < audio.returned_bytes or not audio.is_beginning_of(samples):
        raise StreamAborted("the job was retried and generated other audio")
    return samples[audio.returned_bytes :]
