"""`/v1/audio/speech`: synthesis with a saved voice, or with a recording in the request."""

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
        """Return the response of the job that an earlier request with the same idempotency key created."""
        request.state.joined_job_id = job_id
        return await _serve_joined(request)


router = APIRouter(prefix="/v1", tags=["openai"], route_class=SpeechRoute)

WARNING = "X-Warning"

_CONTENT: dict[str, Any] = {
    format_.media_type: {"schema": {"type": "string", "format": "binary"}} for format_ in FORMATS.values()
} | {MEDIA_TYPE: {"schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, streamed while it is generated, or events with the audio",
        "content": _CONTENT,
        "headers": {
            "X-Job-Id": {"description": "The job that generates the audio", "schema": {"type": "string"}},
            WARNING: {"description": "The fields without effect", "schema": {"type": "string"}},
        },
    },
    303: {"description": "The audio is too large for a response. It is at `Location`"},
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
    """Generate speech from a text."""
    check_model(speech.model, resources.settings)
    text = jobs.check_text(speech.input, resources.settings, field="input")
    format_ = replace(FORMATS[speech.response_format or "mp3"], speed=speech.speed or 1.0)
    check_installed(format_)
    wishes = Wishes((), format_, stream=True)
    answering = Answering(resources, waiters, queue_depth, wishes, claim_of(http_request))
    response = await _response(answering, speech, caller.owner, http_request)
    if response.status_code == 202:
        response = _timeout(response, resources)
    elif response.status_code == 200 and speech.stream_format == "sse":
        response = as_events(response, resources, response.headers["X-Job-Id"], text)
    if warnings := speech.warnings():
        response.headers[WARNING] = "; ".join(warnings)[:1024]
    return response


# For a request with an idempotency key that was used before.
_serve_joined = APIRoute("/", create_speech, methods=["POST"], response_class=Response).get_route_handler()


async def _response(answering: Answering, speech: SpeechRequest, owner: Owner, http_request: Request) -> Response:
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


def _timeout(accepted: Response, resources: Resources) -> Response:
    """Return an error in place of 202, which OpenAI's API does not have.  The job continues."""
    seconds = resources.settings.preview_wait_seconds
    return problems.response(
        503,
        "not_ready",
        f"The audio was not ready within {seconds:g} seconds; send the same request again.",
        job_id=accepted.headers["X-Job-Id"],
        retry_after=int(accepted.headers["Retry-After"]),
    )
