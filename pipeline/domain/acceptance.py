"""Acceptance of jobs: the check of the text, the stored request, and its message."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from pydantic import ValidationError

from pipeline.access import concurrent_previews, rate_limits
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import QueueMessage
from pipeline.contract.records import Envelope, Failed, Request
from pipeline.contract.revocations import DerivedJob
from pipeline.domain.jobs import preview_owner, read_envelope, read_outcome, read_request
from pipeline.domain.sessions import TEXT
from pipeline.errors import InvalidInput, NotFound, PipelineError, Unavailable
from pipeline.ids import Owner
from pipeline.settings import Settings
from pipeline.telemetry import tracing

log = structlog.get_logger(__name__)

_INVISIBLE_LETTERS = "\u115f\u1160\u3164\uffa0"  # Hangul fillers
_WITHDRAW_SECONDS = 1.0
_MESSAGE_MAX_BYTES = 60 * 1024  # SQS charges for every 64 KB


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
