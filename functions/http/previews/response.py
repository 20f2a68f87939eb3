"""The response to a request for a preview: its audio, an error, or the job that continues."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from functions.http.parameters.audio_format import FromFormat
from functions.http.parameters.prefer import parse_prefer
from functions.http.parameters.ranges import FileRequest
from functions.http.previews.audio import audio_headers, encoded_audio, redirect
from functions.http.previews.job_view import view
from functions.http.previews.streaming import StreamedPreview, cancel_if_abandoned, encoded_stream
from functions.http.responses import problems
from functions.http.responses.disconnects import run_until_disconnect
from functions.http.responses.files import http_date, read_file
from functions.http.routing.dependencies import FromServices
from functions.http.routing.idempotent_route import Idempotency, idempotency_of
from functions.http.services import Services
from functions.previews.completion_waiters import Waiter, subscribed
from functions.previews.received_audio import ReceivedAudio
from functions.previews.requests import queued
from pipeline.audio.output_formats import OutputFormat
from pipeline.clients import deadlines
from pipeline.clients.storage import NewObject
from pipeline.contract import layout, retention
from pipeline.contract.layout import audio_url
from pipeline.contract.messages.completions import Completion
from pipeline.contract.records import Failed, FinishReason, Request, report_of
from pipeline.domain import acceptance, jobs
from pipeline.errors import NotReady, PipelineError, TooMany
from pipeline.ids import Owner
from pipeline.settings import ANSWER_SECONDS

Prefer = Annotated[
    str,
    Header(
        alias="Prefer",
        description="RFC 7240: `respond-async` returns 202 immediately, `wait=N` waits up to N seconds",
    ),
]
Stream = Annotated[
    bool,
    Query(description="Send the audio while it is generated, where responses can be streamed; otherwise ignored"),
]


@dataclass(frozen=True, slots=True)
class Preferences:
    """How the client prefers to receive the preview."""

    format: OutputFormat
    prefer: Sequence[str] = ()
    """The values of the `Prefer` header."""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class PreviewResponder:
    """Creates the job of one HTTP request, or joins an existing one, and returns the response."""

    services: Services
    preferences: Preferences
    http_request: HttpRequest
    retry_seconds: float = 0
    """How long a job waits for a retry if its client disconnects before the first audio."""

    @property
    def idempotency(self) -> Idempotency:
        """The state of the request's idempotency key."""
        return idempotency_of(self.http_request)

    async def create_job(
        self,
        request: Request,
        objects: Sequence[NewObject] = (),
        *,
        reference_seconds: float = 0,
        responses: Sequence[str] = (),
    ) -> Response:
        """Accept a job, wait for it, and return the response.

        Once the job is accepted, every response contains its id, including errors. If the client of a streamed
        response disconnects, the job is cancelled, see `cancel_if_abandoned`. Jobs with an idempotency key or a
        webhook URL continue.

        Raises
        ------
        ClientDisconnect
            The client of a streamed response has disconnected before its first byte.
        PipelineError
            The job was not accepted, see `acceptance.accept`; or, RequestInProgress, another request has taken
            over the idempotency key.
        """
        resources = self.services.resources
        wait_seconds, applied = parse_prefer(self.preferences.prefer, resources.settings.preview_wait_seconds)
        await self.services.queue_depth.require_room()
        audio = ReceivedAudio() if self.preferences.stream else None
        async with AsyncExitStack() as registered:
            waiter = registered.enter_context(self.services.waiters.waiter(request.job_id, audio))
            request = request.model_copy(update={"subscriber": waiter.subscriber if wait_seconds else None})
            if claim := self.idempotency.claim:
                responses = [*responses, claim.key]
                await claim.name_job(request.job_id)
            async with self.services.turns.turn(request.source.owner):
                await acceptance.accept(
                    resources,
                    request,
                    objects,
                    reference_seconds=reference_seconds,
                    responses=responses,
                    is_repeatable=claim is not None,
                )
            ends_with_client = self.idempotency.claim is None and request.webhook_url is None
            waiting = self._wait(queued(request), waiter, registered, wait_seconds)
            response = await self._until_disconnect(waiting, waiter, registered, ends_with_client=ends_with_client)
        return with_preference(response, applied)

    async def join_existing_job(self, owner: Owner, job_id: str, *, ends_with_client: bool = False) -> Response:
        """Wait for a job that an earlier request has created, and return the response.

        A streamed response begins with the first audio of the job.

        Parameters
        ----------
        owner, job_id
            The job.
        ends_with_client
            Whether the job is cancelled if the client disconnects and no other client waits for it.

        Raises
        ------
        ClientDisconnect
            The client of a streamed response has disconnected before its first byte.
        NotFound
            No job of this owner has that id, or its record has expired.
        """
        resources = self.services.resources
        wait_seconds, applied = parse_prefer(self.preferences.prefer, resources.settings.preview_wait_seconds)
        job = await jobs.read(resources, owner, job_id)
        if job.status == "expired":
            gone = problems.of_exception(retention.preview_expired(), job_id=job_id)
            gone.headers.update(_job_headers(job))
            return gone
        audio = ReceivedAudio() if self.preferences.stream and not job.outcome else None
        async with AsyncExitStack() as registered:
            waiter = registered.enter_context(self.services.waiters.waiter(job_id, audio))
            if job.outcome:
                waiter.end()
            elif audio is None or waiter.subscriber is None:
                waiter.subscriber = None  # the job notifies the request that created it; this one polls
            else:
                await registered.enter_async_context(subscribed(resources, job_id, waiter.subscriber))
                if await jobs.read_outcome(resources, job_id):  # it was written before the subscription
                    waiter.end()
            waiting = self._wait(job, waiter, registered, wait_seconds)
            response = await self._until_disconnect(waiting, waiter, registered, ends_with_client=ends_with_client)
        return with_preference(response, applied)

    async def _until_disconnect(
        self,
        waiting: Coroutine[Any, Any, Response],
        waiter: Waiter,
        registered: AsyncExitStack,
        *,
        ends_with_client: bool,
    ) -> Response:
        """Return the response. If the client of a stream disconnects, cancel the job, unless it should continue."""
        if not isinstance(waiter.received, ReceivedAudio) or waiter.subscriber is None or not ends_with_client:
            return await waiting
        cancel = partial(cancel_if_abandoned, self.services, waiter.job_id, self.http_request.state.caller.owner)
        try:
            response = await run_until_disconnect(self.http_request.receive, waiting)
        except ClientDisconnect:
            await registered.aclose()
            await cancel(after_seconds=self.retry_seconds)
            raise
        if isinstance(response, StreamedPreview):
            response.on_disconnect = cancel
        return response

    async def _wait(
        self, job: jobs.Job, waiter: Waiter, registered: AsyncExitStack, wait_seconds: float
    ) -> Response:
        """Return the response when the job has ended or generated audio, or the client should stop waiting."""
        wait_seconds = min(wait_seconds, deadlines.seconds_left() - ANSWER_SECONDS)
        try:
            is_ready = wait_seconds > 0 and await self.services.waiters.wait(waiter, wait_seconds)
            if not is_ready:
                response = await self._accepted(job)
            elif isinstance(waiter.received, ReceivedAudio) and waiter.received.has_news:
                response = self._streamed(job.job_id, waiter, waiter.received, registered.pop_all())
            elif waiter.completion:
                response = await self._completed(job, waiter.completion)
            else:
                response = await self._stored(job)
        except (ClientDisconnect, NotReady, TooMany):  # the audio is not encoded
            response = await self._accepted(await jobs.read(self.services.resources, job.source.owner, job.job_id))
        except PipelineError as error:
            response = problems.of_exception(error, job_id=job.job_id)
        except asyncio.CancelledError:  # the process stops
            response = problems.stopping(job_id=job.job_id)
        response.headers.update(_job_headers(job))
        return response

    async def _accepted(self, job: jobs.Job) -> Response:
        return await accepted(self.services, job, root_path=self.http_request.scope.get("root_path", ""))

    def _streamed(self, job_id: str, waiter: Waiter, audio: ReceivedAudio, registered: AsyncExitStack) -> Response:
        format_ = self.preferences.format
        chunks = encoded_stream(self.services, waiter, audio, job_id, format_)
        seconds = self.services.resources.settings.job_deadline.total_seconds()
        response = StreamedPreview(chunks, registered, seconds, format_.media_type)
        response.headers.update(audio_headers(job_id, format_))
        return response

    async def _completed(self, job: jobs.Job, completion: Completion) -> Response:
        """Return the response from the worker's completion message, or from the storage if it has no audio."""
        outcome, job_id, wav = completion.outcome, completion.outcome.job_id, completion.wav
        if isinstance(outcome, Failed):
            return problems.of_code(outcome.code, outcome.message, outcome.field, job_id=job_id)
        max_bytes = self.services.resources.settings.answer_max_bytes
        is_too_large = wav is not None and self.preferences.format.is_as_stored and 0 < max_bytes < len(wav)
        if wav is None or outcome.preview is None or is_too_large:
            return await self._stored(job)
        response = await self._audio(job, wav, outcome.preview.expires_at, outcome.finish_reason)
        if outcome.reference_check and (warnings := outcome.reference_check.warnings):
            response.headers["X-Reference-Warnings"] = ", ".join(warning.code for warning in warnings)
        return response

    async def _stored(self, job: jobs.Job) -> Response:
        """Return the response from the stored audio or outcome."""
        resources, job_id = self.services.resources, job.job_id
        max_bytes = resources.settings.answer_max_bytes if self.preferences.format.is_as_stored else 0
        part = await read_file(resources.bucket, layout.preview(job_id), FileRequest(), max_bytes=max_bytes)
        if part is None:
            outcome = await jobs.read_outcome(resources, job_id)
            if not isinstance(outcome, Failed):
                raise retention.preview_expired()
            return problems.of_code(outcome.code, outcome.message, outcome.field, job_id=job_id)
        expires_at = retention.preview_expires_at(part.stored.last_modified, resources.settings)
        if not part.is_complete:
            return await redirect(resources, job_id, expires_at, {"Content-Location": audio_url(job_id)})
        report = report_of(part.stored.metadata)
        return await self._audio(job, part.stored.body, expires_at, report.finish_reason if report else None)

    async def _audio(
        self, job: jobs.Job, wav: bytes, expires_at: datetime, finish_reason: FinishReason | None
    ) -> Response:
        format_ = self.preferences.format
        body = wav
        if not format_.is_as_stored:
            encoding = encoded_audio(self.services, job.source.owner, job.job_id, wav, format_, expires_at)
            body = await run_until_disconnect(self.http_request.receive, encoding)
        headers = audio_headers(job.job_id, format_) | {"Expires": http_date(expires_at)}
        if finish_reason:
            headers["X-Finish-Reason"] = finish_reason
        return Response(body, media_type=format_.media_type, headers=headers)


async def _responder(
    http_request: HttpRequest,
    services: FromServices,
    format_: FromFormat,
    _prefer: Prefer = "",  # for the description: the header may be repeated
    stream: Stream = False,
) -> PreviewResponder:
    prefer = http_request.headers.getlist("prefer")
    return PreviewResponder(services, Preferences(format_, prefer, stream), http_request)


FromPreviewResponder = Annotated[PreviewResponder, Depends(_responder)]


async def accepted(services: Services, job: jobs.Job, *, root_path: str) -> Response:
    """Return 202 with the state of a job that continues."""
    ahead = await services.queue_depth.ahead()
    state = view(job, ahead if job.status == "queued" else None, root_path=root_path)
    body = state.model_dump(mode="json", exclude_none=True)
    retry_after = services.queue_depth.retry_seconds(job.created_at, ahead)
    headers = {"Location": f"/jobs/{job.job_id}", "Retry-After": str(retry_after)}
    return JSONResponse(body, 202, headers=headers)


def with_preference(response: Response, applied: str | None) -> Response:
    """Add the preferences that were applied to a response."""
    if applied:
        response.headers["Preference-Applied"] = applied
    return response


def _job_headers(job: jobs.Job) -> dict[str, str]:
    session_id = job.source.session_id
    return {"X-Job-Id": job.job_id} | ({"X-Session-Id": session_id} if session_id else {})
