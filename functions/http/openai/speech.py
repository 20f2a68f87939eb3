"""`/v1/audio/speech`: synthesis with a saved voice, or with a recording that the request holds."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from functions.http.openai.models import check_model
from functions.http.openai.repeated_requests import fingerprint_of, job_to_join, remembered
from functions.http.openai.speech_events import MEDIA_TYPE, as_events
from functions.http.openai.speech_request import NewJob, SpeechRequest, new_job
from functions.http.previews.response import Answering, Wishes
from functions.http.responses import problems
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromQueueDepth, FromResources, FromWaiters
from functions.http.routing.idempotent_route import IdempotentRoute, claim_of
from pipeline.audio.output_formats import FORMATS, check_installed
from pipeline.clients.resources import Resources
from pipeline.domain import jobs
from pipeline.errors import (
    DeadlineExceeded,
    Expired,
    InvalidInput,
    NotFound,
    SynthesisFailed,
    TooLarge,
    Unavailable,
)
from pipeline.ids import Owner


class SpeechRoute(IdempotentRoute):
    """A route that creates the job of a speech request."""

    @staticmethod
    async def join(request: Request, job_id: str) -> Response:
        """Return the response from the job that an earlier request with the same idempotency key has made."""
        request.state.joined_job_id = job_id
        return await _serve_joined(request)


router = APIRouter(prefix="/v1", tags=["openai"], route_class=SpeechRoute)

WARNING = "X-Warning"

_CONTENT: dict[str, Any] = {
    format_.media_type: {"schema": {"type": "string", "format": "binary"}} for format_ in FORMATS.values()
} | {MEDIA_TYPE: {"schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, sent while it is made; or events with it",
        "content": _CONTENT,
        "headers": {
            "X-Job-Id": {"description": "The job that made it", "schema": {"type": "string"}},
            WARNING: {"description": "What had no effect", "schema": {"type": "string"}},
        },
    },
    303: {"description": "The audio is larger than a response may be; it is at `Location`"},
    **problems.answers(
        NotFound.code,
        InvalidInput.code,
        TooLarge.code,
        Expired.code,
        SynthesisFailed.code,
        DeadlineExceeded.code,
        Unavailable.code,
        "cancelled",
    ),
}


@router.post("/audio/speech", response_class=Response, responses=_RESPONSES, openapi_extra=requires("preview"))
async def create_speech(
    speech: SpeechRequest,
    http_request: Request,
    caller: FromCaller,
    resources: FromResources,
    waiters: FromWaiters,
    queue_depth: FromQueueDepth,
) -> Response:
    """Synthesize a text, as OpenAI's route of this name does."""
    check_model(speech.model, resources.settings)
    text = jobs.check_text(speech.input, resources.settings, field="input")
    format_ = replace(FORMATS[speech.response_format or "mp3"], speed=speech.speed or 1.0)
    check_installed(format_)
    wishes = Wishes((), format_, stream=True)
    answering = Answering(resources, waiters, queue_depth, wishes, claim_of(http_request))
    answer = await _answer(answering, speech, caller.owner, http_request)
    if answer.status_code == 202:
        answer = _not_in_time(answer, resources)
    elif answer.status_code == 200 and speech.stream_format == "sse":
        answer = as_events(answer, resources, answer.headers["X-Job-Id"], text)
    if warnings := speech.warnings():
        answer.headers[WARNING] = "; ".join(warnings)[:1024]
    return answer


# For a request whose idempotency key has been used before.
_serve_joined = APIRoute("/", create_speech, methods=["POST"], response_class=Response).get_route_handler()


async def _answer(answering: Answering, speech: SpeechRequest, owner: Owner, http_request: Request) -> Response:
    resources = answering.resources
    if joined := getattr(http_request.state, "joined_job_id", None):
        return await answering.join(owner, joined)
    if answering.claim:
        return await _respond(answering, await new_job(resources, speech, owner))
    fingerprint = fingerprint_of(speech)
    if joined := await job_to_join(resources, owner, fingerprint, http_request.headers):
        return await answering.join(owner, joined)
    job = await new_job(resources, speech, owner)
    async with remembered(resources, owner, fingerprint, job.request.job_id):
        return await _respond(answering, job)


async def _respond(answering: Answering, job: NewJob) -> Response:
    return await answering.respond(job.request, job.objects, reference_seconds=job.reference_seconds)


def _not_in_time(accepted: Response, resources: Resources) -> Response:
    """Return an error in place of the job that continues, which OpenAI's API does not know."""
    seconds = resources.settings.preview_wait_seconds
    return problems.response(
        503,
        "not_ready",
        f"The audio was not ready within {seconds:g} seconds; send the same request again.",
        job_id=accepted.headers["X-Job-Id"],
        retry_after=int(accepted.headers["Retry-After"]),
    )
