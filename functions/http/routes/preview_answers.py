"""How a request for a preview is answered: with its audio, with why there is none, or with the job that goes on."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Response
from fastapi.responses import JSONResponse

from functions.http import problems
from functions.http.dependencies import FromQueueDepth, FromResources, FromWaiters
from functions.http.parameters.prefer import parse_prefer
from functions.http.routes.jobs import view
from functions.http.routes.preview_audio import asked_of_storage, elsewhere, http_date, is_all
from functions.previews.completion_waiters import CompletionWaiters
from functions.previews.queue_depth import QueueDepth
from functions.previews.requests import queued
from functions.previews.urls import audio_url
from pipeline import deadlines
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import NewObject
from pipeline.contract import layout, retention
from pipeline.contract.records import Failed, Request
from pipeline.domain import jobs
from pipeline.domain.presigned_urls import DISPOSITION
from pipeline.errors import Expired, PipelineError
from pipeline.settings import ANSWER_SECONDS

Prefer = Annotated[
    list[str] | None, Header(description="RFC 7240: `respond-async` answers 202 at once, `wait=N` waits N seconds")
]


@dataclass(frozen=True, slots=True)
class Answering:
    """Makes the jobs of one client's request and answers it; `prefer` is what the client said of waiting."""

    resources: Resources
    waiters: CompletionWaiters
    queue_depth: QueueDepth
    prefer: Sequence[str]

    async def respond(
        self, request: Request, objects: Sequence[NewObject] = (), *, reference_seconds: float = 0
    ) -> Response:
        """Have a job accepted, wait for it, and answer; see `jobs.accept` for what is raised.

        Once it is accepted, every answer names the job, whatever goes wrong.
        """
        wait_seconds, applied = parse_prefer(self.prefer, self.resources.settings.preview_wait_seconds)
        with self.waiters.waiter() as waiter:
            made_by = request.model_copy(update={"subscriber": waiter.subscriber if wait_seconds else None})
            await jobs.accept(self.resources, made_by, objects, reference_seconds=reference_seconds)
            wait_seconds = min(wait_seconds, deadlines.seconds_left() - ANSWER_SECONDS)
            has_ended = wait_seconds > 0 and await self.waiters.wait(waiter, request.job_id, wait_seconds)
        try:
            answer = await (self._ended(request) if has_ended else self._accepted(request))
        except PipelineError as error:
            answer = problems.answer_to(error, job_id=request.job_id)
        except asyncio.CancelledError:
            answer = problems.stopping(job_id=request.job_id)
        answer.headers.update(_identity(request))
        if applied:
            answer.headers["Preference-Applied"] = applied
        return answer

    async def _ended(self, request: Request) -> Response:
        job_id, settings = request.job_id, self.resources.settings
        stored = await self.resources.bucket.read(layout.preview(job_id), range_=asked_of_storage(None, settings))
        if stored is None:
            return await self._without_audio(job_id)
        expires_at = retention.preview_expires_at(stored.last_modified, settings)
        headers = {"Content-Location": audio_url(job_id)}
        if not is_all(None, stored):
            return await elsewhere(self.resources, job_id, expires_at, headers)
        headers |= {
            "Content-Disposition": DISPOSITION,
            "Expires": http_date(expires_at),
            "Cache-Control": "private",
        }
        return Response(stored.body, media_type=WAV, headers=headers)

    async def _without_audio(self, job_id: str) -> Response:
        outcome = await jobs.read_outcome(self.resources, job_id)
        if not isinstance(outcome, Failed):
            raise Expired("The preview expired before it could be sent.", field="job_id")
        return problems.of_code(outcome.code, outcome.message, outcome.field, job_id=job_id)

    async def _accepted(self, request: Request) -> Response:
        ahead = await self.queue_depth.ahead()
        seen = view(queued(request), ahead)
        retry = self.queue_depth.retry_seconds(request.created_at, ahead)
        headers = {"Location": f"/jobs/{request.job_id}", "Retry-After": str(retry)}
        return JSONResponse(seen.model_dump(mode="json", exclude_none=True), 202, headers=headers)


async def _answering(
    resources: FromResources, waiters: FromWaiters, queue_depth: FromQueueDepth, prefer: Prefer = None
) -> Answering:
    return Answering(resources, waiters, queue_depth, prefer or ())


FromAnswering = Annotated[Answering, Depends(_answering)]


def _identity(request: Request) -> dict[str, str]:
    session_id = request.source.session_id
    return {"X-Job-Id": request.job_id} | ({"X-Session-Id": session_id} if session_id else {})
