"""From a job's id to its result: read the request, get the voice prompt, synthesize."""

import asyncio
from dataclasses import replace
from typing import Any

import structlog
from pydantic import ValidationError

from gpu_runner.engines import Utterance
from gpu_runner.streaming.audio_stream import Attempt, AudioStream
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.engine_loop import Speech
from gpu_runner.synthesis.publishing import (
    Checked,
    PreviouslySynthesized,
    Result,
    Synthesized,
    is_late,
    store_fingerprint,
    stored_preview,
)
from gpu_runner.synthesis.watch import POLL_SECONDS, Watch
from pipeline.clients.resources import Resources
from pipeline.contract import layout, retention
from pipeline.contract.records import Request
from pipeline.domain import jobs
from pipeline.errors import Cancelled, DeadlineExceeded, Expired, InvalidInput, NotFound, VoiceDeleted
from pipeline.telemetry import tracing

PERMANENT_ERRORS = (InvalidInput, NotFound, Expired, DeadlineExceeded, Cancelled, VoiceDeleted)

MAX_RETRIES = 2  # of speech that ran away before any audio was sent

log = structlog.get_logger(__name__)


class UnreadableRequest(Exception):
    """The request has a format that this version of the worker does not know."""


async def process(
    context: WorkerContext, job_id: str, *, redelivered: bool, document: dict[str, Any] | None = None
) -> Result | None:
    """Process a job up to its publication. Return None if there is nothing to publish.

    `document` is the request, if the job's message contained it.

    Raises
    ------
    Unavailable, UnreadableRequest, Stopping, EngineFailed, EngineLost
        A retry may succeed.
    """
    resources = context.resources
    if redelivered and (outcome := await jobs.read_outcome(resources, job_id)) is not None:
        await store_fingerprint(resources, outcome)
        return None
    request = await _read_request(resources, job_id, None if redelivered else document)
    if request is None:
        log.warning("job is unknown", job_id=job_id)
        return None
    structlog.contextvars.bind_contextvars(correlation_id=request.correlation_id)
    if is_late(request, resources):
        return jobs.past_deadline(request, resources)
    try:
        if redelivered and (stored := await stored_preview(resources, layout.preview(job_id))):
            return PreviouslySynthesized(request, stored)
        tracing.record_span("queue", request.created_at, resources.clock(), parent=request.traceparent)
        if request.kind == "check":
            return Checked(request, await context.analyses.check(request))
        if request.kind == "consent":
            await context.analyses.check_consent(request)
            return Checked(request)
        with tracing.span("synthesis", parent=request.traceparent, kind="consumer", job_id=job_id):
            return await _synthesize(context, request, redelivered=redelivered)
    except PERMANENT_ERRORS as error:
        return jobs.failure(request, error, resources.clock())


async def _read_request(resources: Resources, job_id: str, document: dict[str, Any] | None) -> Request | None:
    try:
        if document is not None:
            return Request.model_validate(document)
        return await jobs.read_request(resources, job_id)
    except ValidationError as error:
        # The error message quotes its input, which must not be logged.
        raise UnreadableRequest(f"{error.error_count()} fields of the request are invalid or unknown") from None


async def _synthesize(context: WorkerContext, request: Request, *, redelivered: bool) -> Synthesized:
    take = context.reproducible_as() or context.resources.new_id()
    attempt = Attempt(request.job_id, take, context.sample_rate, redelivered)
    stream = AudioStream(context.posts, attempt, context.resources.clock)
    watch = Watch(context.resources, context.revocations, request, stream)
    analysis = context.analyses.start(request) if request.kind == "preview" else None
    try:
        await _check_not_cancelled(context.resources, request, watch)
        if request.subscriber is not None and request.subscriber.stream:
            stream.subscribe(request.subscriber)
        # The prompt of a reference sent with this request can have been stored only by an earlier attempt.
        maybe_stored = request.new_reference is None or redelivered
        voice, labels = await asyncio.gather(
            context.prompts.get(request, maybe_stored=maybe_stored),
            context.disclaimers.settings_of(request.source.owner),
        )
        speech = None
        if request.kind == "preview":
            announcement = await context.disclaimers.announcement(request, voice, labels)
            utterance = Utterance(
                request.job_id, request.text, voice.prompt, request.options, announcement=announcement
            )
            speech = await _unless_cancelled_or_late(context, request, utterance, stream, watch)
            while speech.may_retry and not stream.has_sent_audio and utterance.attempt < MAX_RETRIES:
                utterance = replace(utterance, attempt=utterance.attempt + 1)
                log.warning("speech ran away, retrying", attempt=utterance.attempt)
                stream.restart(f"{take}-{utterance.attempt}")
                seconds = speech.seconds
                speech = await _unless_cancelled_or_late(context, request, utterance, stream, watch)
                speech = replace(speech, seconds=seconds + speech.seconds)
            if analysis:
                analysis.add_speech(speech.samples, context.sample_rate)
    except BaseException:
        stream.abort()
        if analysis:
            context.analyses.cancel(analysis)
        raise
    return Synthesized(request, voice, speech, context.resources.clock(), stream, analysis)


async def _check_not_cancelled(resources: Resources, request: Request, watch: Watch) -> None:
    """Raise `Cancelled` for a job cancelled in the queue. A new one is left to the poll during its synthesis."""
    waited = resources.clock() - request.created_at
    if waited.total_seconds() > POLL_SECONDS and await watch.is_cancelled():
        raise _cancelled()


async def _unless_cancelled_or_late(
    context: WorkerContext, request: Request, utterance: Utterance, stream: AudioStream, watch: Watch
) -> Speech:
    """Wait for the audio until the job is cancelled or past its deadline. Then the engine drops it."""
    resources = context.resources
    remaining = retention.job_deadline(request.job_id, resources.settings) - resources.clock()
    synthesis = asyncio.create_task(context.synthesize(utterance, stream.add))
    cancellation = asyncio.create_task(watch.until_cancelled())
    tasks = synthesis, cancellation
    try:
        with context.watches.polling(watch):
            async with asyncio.timeout(remaining.total_seconds()):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if synthesis.done():
            return synthesis.result()
        context.revocations.check(request)
        raise _cancelled()
    except TimeoutError:
        raise jobs.too_late(resources.settings) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _cancelled() -> Cancelled:
    return Cancelled("The job was cancelled.")
