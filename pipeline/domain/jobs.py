"""Jobs: a request object written once and an outcome object written once. The state is which of them exist."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog
from pydantic import ValidationError

from pipeline.access import concurrent_previews, rate_limits
from pipeline.access.owners import owns
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout, retention
from pipeline.contract.messages.queue_messages import QueueMessage
from pipeline.contract.messages.webhooks import WebhookFailure
from pipeline.contract.records import (
    Envelope,
    Failed,
    Outcome,
    Request,
    Source,
    Succeeded,
    outcome_fields,
    parse_outcome,
)
from pipeline.contract.revocations import DerivedJob
from pipeline.domain.sessions import TEXT
from pipeline.errors import Cancelled, DeadlineExceeded, InvalidInput, NotFound, PipelineError, Unavailable
from pipeline.ids import Owner, is_id, lowest_id
from pipeline.settings import Settings
from pipeline.telemetry import tracing

log = structlog.get_logger(__name__)

_INVISIBLE_LETTERS = "\u115f\u1160\u3164\uffa0"  # Hangul fillers
_WITHDRAW_SECONDS = 1.0
_MESSAGE_MAX_BYTES = 60 * 1024  # SQS charges for every 64 KB


Status = Literal["queued", "succeeded", "failed", "expired"]


@dataclass(frozen=True, slots=True)
class Job:
    """The state of a job at one moment."""

    job_id: str
    status: Status
    source: Source
    created_at: datetime
    outcome: Outcome | None


def check_text(text: str, settings: Settings, *, field: str) -> str:
    """Return a text if it is valid for synthesis.

    Raises
    ------
    InvalidInput
        It is blank, has nothing that can be spoken, or is too long.
    """
    if not text.strip():
        raise InvalidInput(f"{field} is blank. It should contain the text to speak.", field=field)
    if not any(_is_speakable(character) for character in text):
        raise InvalidInput(
            f"{field} has nothing to speak. It should contain at least one letter or digit.", field=field
        )
    if len(text) > settings.text_max_chars:
        raise InvalidInput(
            f"{field} has {len(text)} characters. It should have at most {settings.text_max_chars}.",
            field=field,
        )
    return text


def _is_speakable(character: str) -> bool:
    """Return whether a character is a letter or a number, in any script."""
    category = unicodedata.category(character)
    return category[0] in "LN" and category != "Lm" and character not in _INVISIBLE_LETTERS  # Lm: modifiers


async def accept(
    resources: Resources,
    request: Request,
    objects: Sequence[NewObject] = (),
    *,
    reference_seconds: float = 0,
    responses: Sequence[str] = (),
    is_repeatable: bool = False,
) -> None:
    """Accept a job: store its request and the objects it needs, then send its message.

    After this has returned, the job will end, even if processes fail. `responses` are the keys of the idempotency
    records that name the job.

    After an error, a worker may have received the job: only the response of the queue was lost, or a queue was
    refilled after a crash. So a repeatable request is kept if it was stored, and `send_again` continues its job.
    Others are withdrawn.

    Raises
    ------
    TooMany
        The owner has reached the limit of concurrent previews, or the new recording exceeds the owner's quota.
    Unavailable
        The storage or the queue did not respond: the job was not accepted.
    """
    if owner := preview_owner(request):
        await concurrent_previews.reserve(resources, owner, request.job_id)
    stored = NewObject(layout.request(request.job_id), request.to_json(), JSON)
    async with _withdrawn_on_error(resources, request, is_repeatable=is_repeatable):
        if reference_seconds:
            await rate_limits.take_reference_seconds(resources, request.source.owner, reference_seconds)
        await _put_all(resources, [stored, *_marker(request, responses), *objects])
        await _send(resources, request)


def _marker(job: Envelope, responses: Sequence[str] = ()) -> list[NewObject]:
    """Return the marker by which a revocation finds a job. A job of an older version has none."""
    if job.reference_id is None:
        return []
    record = DerivedJob(voice_id=job.source.voice_id, responses=tuple(responses))
    return [NewObject(layout.derived_job(job.reference_id, job.job_id), record.to_json(), JSON)]


async def _send(resources: Resources, request: Request) -> None:
    document = request.model_dump(mode="json", exclude_none=True)
    message = QueueMessage(job_id=request.job_id, request=document).model_dump_json(exclude_none=True)
    with tracing.span("enqueue", kind="producer", job_id=request.job_id):
        if len(message.encode()) > _MESSAGE_MAX_BYTES:
            await enqueue(resources, request.job_id, request.source.owner)
        else:
            await resources.synthesis.send(message, group=request.source.owner)


def preview_owner(job: Envelope | Outcome) -> Owner:
    """Return the owner whose limit of concurrent previews a job counts towards, or None if it is not counted."""
    return job.source.owner if job.kind == "preview" else None


async def _put_all(resources: Resources, objects: Sequence[NewObject]) -> None:
    """Wait for every write, so that none is still running when a failure is handled."""
    puts = (resources.bucket.put(new.key, new.body, new.content_type) for new in objects)
    for result in await asyncio.gather(*puts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


@asynccontextmanager
async def _withdrawn_on_error(
    resources: Resources, request: Request, *, is_repeatable: bool
) -> AsyncIterator[None]:
    """Delete a request that was not accepted, as far as possible: a worker drops a job without a request.

    The marker stays: a revocation finds the audio of a worker that has received the request in a message.
    """
    try:
        yield
    except PipelineError:
        try:
            with deadlines.within(_WITHDRAW_SECONDS):  # the request's own deadline may have passed
                if not is_repeatable or await read_envelope(resources, request.job_id) is None:
                    await resources.bucket.delete(_keys_of(request))
        except Unavailable:
            log.warning("could not withdraw request", job_id=request.job_id)
        raise


def _keys_of(job: Envelope) -> list[str]:
    """Return the keys of a job that has not begun, without its recording and its marker."""
    keys = [layout.request(job.job_id)]
    if owner := preview_owner(job):
        keys.append(layout.in_flight(owner, job.job_id))
    return keys


async def enqueue(resources: Resources, job_id: str, owner: Owner = None) -> None:
    """Send a job to the workers, with fair queueing between owners. This is idempotent."""
    await resources.synthesis.send(QueueMessage(job_id=job_id).model_dump_json(), group=owner)


async def send_again(resources: Resources, job_id: str) -> bool:
    """Send the message of a job again, after an interruption. Return False if it was not stored completely."""
    request = await read_envelope(resources, job_id)
    if request is None or not await _has_recording(resources, request):
        return False
    for new in [*_marker(request), *await _transcription(resources, job_id)]:  # these may be missing
        await resources.bucket.put_once(new.key, new.body, new.content_type)
    await enqueue(resources, job_id, request.source.owner)
    return True


async def _transcription(resources: Resources, job_id: str) -> list[NewObject]:
    """Return the transcription of a recording that was sent with a job's request, if this version can read it."""
    with suppress(ValidationError):
        request = await read_request(resources, job_id)
        if request and request.new_reference and request.new_reference.transcription:
            text = request.new_reference.transcription.encode()
            return [NewObject(layout.session(request.reference_id).transcription, text, TEXT)]
    return []


async def _has_recording(resources: Resources, job: Envelope) -> bool:
    """Return whether the recording of a job was stored. Withdraw a job that an interruption left without it."""
    session_id = job.source.session_id
    if session_id is None or await resources.bucket.head(layout.session(session_id).audio):
        return True
    outcome = await read_outcome(resources, job.job_id)
    if outcome is None:
        await resources.bucket.delete(_keys_of(job))
    # A worker may have received it from a queue that was refilled. Other jobs have outlived their recording.
    return outcome is not None and not (isinstance(outcome, Failed) and outcome.code == NotFound.code)


async def read_request(resources: Resources, job_id: str) -> Request | None:
    """Return the request of a job, or None if the job is unknown or its record has expired.

    Raises
    ------
    ValidationError
        It is damaged, or of a version that this process does not support.
    """
    body = await resources.bucket.get(layout.request(job_id))
    return Request.model_validate_json(body) if body else None


async def read_envelope(resources: Resources, job_id: str) -> Envelope | None:
    """Return the version-independent fields of a request, or None if it is unknown, expired or damaged."""
    body = await resources.bucket.get(layout.request(job_id))
    return Envelope.parse_stored(body, job_id=job_id)


async def cancel(resources: Resources, owner: Owner, job_id: str) -> Job:
    """Cancel a job. Return its final state, which is another one if it had ended already.

    It ends immediately. The result of a worker that is processing it is discarded.

    Raises
    ------
    NotFound
        No job of this owner has that id.
    """
    job = await read(resources, owner, job_id)
    request = await read_envelope(resources, job_id) if job.outcome is None else None
    if request is None:
        return job
    await mark_cancelled(resources, job_id)
    await write_outcome(resources, failure(request, Cancelled("The job was cancelled."), resources.clock()))
    return await read(resources, owner, job_id)


async def mark_cancelled(resources: Resources, job_id: str) -> None:
    """Signal a worker that may be processing the job to stop. This is idempotent."""
    await resources.bucket.put_once(layout.cancellation(job_id), b"", "text/plain")


async def read_outcome(resources: Resources, job_id: str) -> Outcome | None:
    """Return the outcome of a job, or None if it has not ended or is unknown."""
    body = await resources.bucket.get(layout.outcome(job_id))
    return parse_outcome(body) if body else None


async def is_open(resources: Resources, job_id: str) -> bool:
    """Return whether a job is stored and has not ended. One that has ended may be removed with its voice."""
    if await resources.bucket.head(layout.outcome(job_id)) is not None:  # removed not after the request
        return False
    return await resources.bucket.head(layout.request(job_id)) is not None


async def webhook_error(resources: Resources, job_id: str) -> str | None:
    """Return why the webhook of a job was given up, or None if it was not."""
    body = await resources.bucket.get(layout.webhook_failure(job_id))
    return WebhookFailure.model_validate_json(body).reason if body else None


async def read(resources: Resources, owner: Owner, job_id: str) -> Job:
    """Return the current state of a job.

    Raises
    ------
    NotFound
        No job of this owner has that id, or its record has expired.
    """
    if (
        not is_id(job_id)
        or not owns(owner, job_id)
        or retention.job_expires_at(job_id, resources.settings) <= resources.clock()
    ):
        raise _unknown(job_id)
    outcome = await read_outcome(resources, job_id)
    if outcome is not None:
        return _ended(outcome, resources.clock())
    request = await read_envelope(resources, job_id)
    if request is None:
        raise _unknown(job_id)
    if retention.job_deadline(job_id, resources.settings) <= resources.clock():
        return _ended(past_deadline(request, resources), resources.clock())
    return Job(job_id, "queued", request.source, request.created_at, None)


def _ended(outcome: Outcome, now: datetime) -> Job:
    status: Status = outcome.status
    if isinstance(outcome, Succeeded) and outcome.preview and outcome.preview.expires_at <= now:
        status = "expired"
    return Job(outcome.job_id, status, outcome.source, outcome.created_at, outcome)


def _unknown(job_id: str) -> NotFound:
    return NotFound(
        f"There is no job {job_id[:64]!r}. Jobs are deleted a day after their creation.", field="job_id"
    )


async def write_outcome(resources: Resources, outcome: Outcome, *, releases: bool = True) -> bool:
    """Write the outcome of a job if it has none. Return whether the stored outcome is this one.

    `releases` is false if the caller calls `release` itself.
    """
    key = layout.outcome(outcome.job_id)
    written = await resources.bucket.put_once(key, outcome.to_json(), JSON) is not None
    if releases:
        await release(resources, outcome)
    return written


async def release(resources: Resources, outcome: Outcome) -> None:
    """Stop counting a job that has ended towards its owner's limit of concurrent previews."""
    if owner := preview_owner(outcome):
        await concurrent_previews.release(resources, owner, outcome.job_id)


def failure(request: Envelope, error: PipelineError, now: datetime) -> Failed:
    """Return the outcome of a job that fails with this error."""
    return Failed(
        **outcome_fields(request, now),
        code=error.code,
        message=error.message,
        field=error.field,
        finish_reason="cancelled" if isinstance(error, Cancelled) else None,
    )


def past_deadline(request: Envelope, resources: Resources) -> Failed:
    """Return the outcome of a job that exceeded its deadline."""
    ended_at = retention.job_deadline(request.job_id, resources.settings)
    return failure(request, too_late(resources.settings), ended_at)


def too_late(settings: Settings) -> DeadlineExceeded:
    """Return the error for a job that exceeded its deadline."""
    return DeadlineExceeded(f"The job did not end within {settings.job_deadline_minutes:g} minutes. Send it again.")


async def unfinished(resources: Resources, *, since: datetime, until: datetime) -> AsyncIterator[str]:
    """Yield the jobs created in a period that have a request and no outcome, oldest first.

    This needs one listing of the period.
    """
    current, files = "", set[str]()
    bound = layout.JOBS + lowest_id(until)
    async for item in resources.bucket.list(layout.JOBS, start_after=layout.JOBS + lowest_id(since)):
        if item.key >= bound:
            break
        job_id = layout.id_in(item.key, layout.JOBS)
        if job_id != current:
            if _is_open(files):
                yield current
            current, files = job_id, set()
        files.add(item.key.removeprefix(layout.job(job_id)))
    if _is_open(files):
        yield current


def _is_open(files: set[str]) -> bool:
    return "request.json" in files and layout.OUTCOME_FILE not in files
