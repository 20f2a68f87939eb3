"""The response to a request for a preview: its audio, an error, or the job that continues."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Header, Query, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse

from functions.http.parameters.audio_format import FromFormat
from functions.http.parameters.prefer import parse_prefer
from functions.http.previews.audio import (
    asked_of_storage,
    audio_headers,
    elsewhere,
    http_date,
    is_all,
    transcoded,
)
from functions.http.previews.job_view import view
from functions.http.previews.streaming import AudioPieces, StreamedPreview
from functions.http.responses import problems
from functions.http.routing.dependencies import FromQueueDepth, FromResources, FromWaiters
from functions.http.routing.idempotent_route import claim_of
from functions.previews.completion_waiters import CompletionWaiters, Waiter
from functions.previews.queue_depth import QueueDepth
from functions.previews.received_audio import ReceivedAudio
from functions.previews.requests import queued
from functions.previews.urls import audio_url
from pipeline import deadlines
from pipeline.access.idempotency import Claim
from pipeline.audio.output_formats import OutputFormat
from pipeline.clients.resources import Resources
from pipeline.clients.storage import NewObject
from pipeline.contract import layout, retention
from pipeline.contract.messages.completions import Completion
from pipeline.contract.records import Failed, Request
from pipeline.domain import jobs
from pipeline.errors import PipelineError
from pipeline.ids import Owner
from pipeline.settings import ANSWER_SECONDS

Prefer = Annotated[
    list[str] | None, Header(description="RFC 7240: `respond-async` answers 202 at once, `wait=N` waits N seconds")
]
Stream = Annotated[
    bool, Query(description="Send the audio while it is made; where that can't be done, it is answered whole")
]


@dataclass(frozen=True, slots=True)
class Wishes:
    """The client's preferences for the response: waiting time, format, and whether to stream."""

    prefer: Sequence[str]
    format: OutputFormat
    stream: bool


@dataclass(frozen=True, slots=True)
class Answering:
    """Creates the job of a client's request, and the response."""

    resources: Resources
    waiters: CompletionWaiters
    queue_depth: QueueDepth
    wishes: Wishes
    claim: Claim | None = None
    """Of the request's idempotency key, if it has one."""

    async def respond(
        self, request: Request, objects: Sequence[NewObject] = (), *, reference_seconds: float = 0
    ) -> Response:
        """Accept a job, wait for it, and return the response; raises the errors of `jobs.accept`.

        Once it is accepted, every response names the job, including errors.
        """
        wait_seconds, applied = parse_prefer(self.wishes.prefer, self.resources.settings.preview_wait_seconds)
        audio = ReceivedAudio() if self.wishes.stream else None
        with ExitStack() as waiting:
            waiter = waiting.enter_context(self.waiters.waiter(audio))
            made_by = request.model_copy(update={"subscriber": waiter.subscriber if wait_seconds else None})
            if self.claim:
                await self.claim.name_job(request.job_id)
            await jobs.accept(self.resources, made_by, objects, reference_seconds=reference_seconds)
            answer = await self._wait_and_answer(queued(request), waiter, waiting, wait_seconds)
        return _with_preference(answer, applied)

    async def join(self, owner: Owner, job_id: str) -> Response:
        """Wait for a job that an earlier request has made, and return the response.

        Raises
        ------
        NotFound
            No job of this owner has that id, or its record has expired.
        """
        wait_seconds, applied = parse_prefer(self.wishes.prefer, self.resources.settings.preview_wait_seconds)
        job = await jobs.read(self.resources, owner, job_id)
        if job.status == "expired":
            gone = problems.answer_to(retention.preview_expired(), job_id=job_id)
            gone.headers.update(_identity(job))
            return gone
        with ExitStack() as waiting:
            waiter = waiting.enter_context(self.waiters.waiter())
            waiter.subscriber = None  # the job notifies its creator: this request polls
            if job.outcome:
                waiter.end()
            answer = await self._wait_and_answer(job, waiter, waiting, wait_seconds)
        return _with_preference(answer, applied)

    async def _wait_and_answer(
        self, job: jobs.Job, waiter: Waiter, waiting: ExitStack, wait_seconds: float
    ) -> Response:
        wait_seconds = min(wait_seconds, deadlines.seconds_left() - ANSWER_SECONDS)
        try:
            is_ready = wait_seconds > 0 and await self.waiters.wait(waiter, job.job_id, wait_seconds)
            answer = await self._answer(job, waiter if is_ready else None, waiting)
        except PipelineError as error:
            answer = problems.answer_to(error, job_id=job.job_id)
        except asyncio.CancelledError:  # the process stops
            answer = problems.stopping(job_id=job.job_id)
        answer.headers.update(_identity(job))
        return answer

    async def _answer(self, job: jobs.Job, waiter: Waiter | None, waiting: ExitStack) -> Response:
        if waiter is None:
            return await self._accepted(job)
        if isinstance(waiter.received, ReceivedAudio) and waiter.received.has_news:
            return self._streamed(job.job_id, waiter, waiter.received, waiting.pop_all())
        if waiter.completion:
            return await self._completed(waiter.completion)
        return await self._ended(job.job_id)

    def _streamed(self, job_id: str, waiter: Waiter, audio: ReceivedAudio, waiting: ExitStack) -> Response:
        format_, seconds = self.wishes.format, self.resources.settings.job_deadline.total_seconds()
        pieces = AudioPieces(self.resources, self.waiters, waiter, job_id, format_).pieces(audio)
        answer = StreamedPreview(pieces, waiting, seconds, format_.media_type)
        answer.headers.update(audio_headers(job_id, format_))
        return answer

    async def _completed(self, completion: Completion) -> Response:
        """Return the response from what the worker has sent; what is missing is read from the storage."""
        outcome, job_id = completion.outcome, completion.outcome.job_id
        if isinstance(outcome, Failed):
            return problems.of_code(outcome.code, outcome.message, outcome.field, job_id=job_id)
        if completion.wav is None or outcome.preview is None or self._is_too_large(completion.wav):
            return await self._ended(job_id)
        return await self._audio(job_id, completion.wav, outcome.preview.expires_at)

    def _is_too_large(self, wav: bytes) -> bool:
        return self.wishes.format.is_as_stored and 0 < self.resources.settings.answer_max_bytes < len(wav)

    async def _ended(self, job_id: str) -> Response:
        """Return the response from the stored audio or outcome."""
        settings, format_ = self.resources.settings, self.wishes.format
        range_ = asked_of_storage(None, settings) if format_.is_as_stored else None
        stored = await self.resources.bucket.read(layout.preview(job_id), range_=range_)
        if stored is None:
            return await self._without_audio(job_id)
        expires_at = retention.preview_expires_at(stored.last_modified, settings)
        if not is_all(None, stored):
            headers = {"Content-Location": audio_url(job_id)}
            return await elsewhere(self.resources, job_id, expires_at, headers)
        return await self._audio(job_id, stored.body, expires_at)

    async def _audio(self, job_id: str, wav: bytes, expires_at: datetime) -> Response:
        format_ = self.wishes.format
        body = await transcoded(wav, format_, self.resources.settings)
        headers = audio_headers(job_id, format_) | {"Expires": http_date(expires_at)}
        return Response(body, media_type=format_.media_type, headers=headers)

    async def _without_audio(self, job_id: str) -> Response:
        outcome = await jobs.read_outcome(self.resources, job_id)
        if not isinstance(outcome, Failed):
            raise retention.preview_expired()
        return problems.of_code(outcome.code, outcome.message, outcome.field, job_id=job_id)

    async def _accepted(self, job: jobs.Job) -> Response:
        ahead = await self.queue_depth.ahead()
        seen = view(job, ahead if job.status == "queued" else None)
        retry = self.queue_depth.retry_seconds(job.created_at, ahead)
        headers = {"Location": f"/jobs/{job.job_id}", "Retry-After": str(retry)}
        return JSONResponse(seen.model_dump(mode="json", exclude_none=True), 202, headers=headers)


async def _wishes(format_: FromFormat, prefer: Prefer = None, stream: Stream = False) -> Wishes:
    return Wishes(prefer or (), format_, stream)


async def _answering(
    http_request: HttpRequest,
    resources: FromResources,
    waiters: FromWaiters,
    queue_depth: FromQueueDepth,
    wishes: Annotated[Wishes, Depends(_wishes)],
) -> Answering:
    return Answering(resources, waiters, queue_depth, wishes, claim_of(http_request))


FromAnswering = Annotated[Answering, Depends(_answering)]


def _with_preference(answer: Response, applied: str | None) -> Response:
    if applied:
        answer.headers["Preference-Applied"] = applied
    return answer


def _identity(job: jobs.Job) -> dict[str, str]:
    session_id = job.source.session_id
    return {"X-Job-Id": job.job_id} | ({"X-Session-Id": session_id} if session_id else {})
