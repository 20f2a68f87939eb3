"""`/v1/audio/speech`: synthesis with a saved voice, or with a recording in the request."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from functions.http.openai.models import check_model
from functions.http.openai.retries import RETRY_COUNT, fingerprint_of, is_retry, job_to_join, stored_for_retries
from functions.http.openai.speech_events import MEDIA_TYPE, as_events
from functions.http.openai.speech_request import NewJob, SpeechRequest, new_job
from functions.http.previews.response import Preferences, PreviewResponder
from functions.http.responses import problems
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromServices
from functions.http.routing.idempotent_route import JobRoute
from pipeline.audio.output_formats import FORMATS, check_installed
from pipeline.clients.resources import Resources
from pipeline.domain import acceptance
from pipeline.errors import (
    ConsentRequired,
    DeadlineExceeded,
    Expired,
    InvalidInput,
    NotFound,
    SynthesisFailed,
    TooLarge,
    Unavailable,
)
from pipeline.ids import Owner


class SpeechRoute(JobRoute):
    """The route of speech requests, which can contain a recording."""

    long_field = "ref_audio"


router = APIRouter(prefix="/v1", tags=["openai"], route_class=SpeechRoute)

WARNING = "X-Warning"
# OpenAI's clients retry after at most this time, if the previous attempt ended by a timeout.
RETRY_SECONDS = 4.0

_CONTENT: dict[str, Any] = {
    format_.media_type: {"schema": {"type": "string", "format": "binary"}} for format_ in FORMATS.values()
} | {MEDIA_TYPE: {"schema": {"type": "string"}}}
# Also of errors of an accepted job.
_HEADERS = {
    "X-Job-Id": {"description": "The job that generates the audio", "schema": {"type": "string"}},
    WARNING: {"description": "The fields without effect", "schema": {"type": "string"}},
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, streamed while it is generated, or events with the audio",
        "content": _CONTENT,
    },
    303: {"description": "The audio is too large for a response. It is at `Location`"},
    **problems.answers(
        NotFound.code,
        InvalidInput.code,
        TooLarge.code,
        Expired.code,
        SynthesisFailed.code,
        DeadlineExceeded.code,
        ConsentRequired.code,
        Unavailable.code,
        "cancelled",
    ),
}
_RESPONSES = {status: {**answer, "headers": _HEADERS} for status, answer in _ANSWERS.items()}


@router.post("/audio/speech", response_class=Response, responses=_RESPONSES, openapi_extra=requires("preview"))
async def create_speech(
    speech: SpeechRequest,
    http_request: Request,
    caller: FromCaller,
    services: FromServices,
) -> Response:
    """Generate speech from a text."""
    resources = services.resources
    check_model(speech.model, resources.settings)
    text = acceptance.check_text(speech.input, resources.settings, field="input")
    format_ = replace(FORMATS[speech.response_format or "mp3"], speed=speech.speed or 1.0)
    check_installed(format_)
    retry_seconds = RETRY_SECONDS if RETRY_COUNT in http_request.headers else 0
    responder = PreviewResponder(services, Preferences(format_, stream=True), http_request, retry_seconds)
    response = await _response(responder, speech, caller.owner, http_request)
    if response.status_code == 202:
        response = _timeout(response, resources)
    elif response.status_code == 200 and speech.stream_format == "sse":
        response = as_events(response, resources, response.headers["X-Job-Id"], text)
    if warnings := speech.warnings():
        response.headers[WARNING] = "; ".join(warnings)[:1024]
    return response


async def _response(
    responder: PreviewResponder, speech: SpeechRequest, owner: Owner, http_request: Request
) -> Response:
    resources, idempotency = responder.services.resources, responder.idempotency
    if idempotency.existing_job_id:
        return await responder.join_existing_job(owner, idempotency.existing_job_id)
    if idempotency.claim:
        return await _create_job(responder, await new_job(resources, speech, owner))
    fingerprint = fingerprint_of(await http_request.body())
    if is_retry(http_request.headers) and (joined := await job_to_join(resources, owner, fingerprint)):
        return await responder.join_existing_job(owner, joined, ends_with_client=speech.webhook_url is None)
    job = await new_job(resources, speech, owner)
    async with stored_for_retries(resources, owner, fingerprint, job.request.job_id) as record_key:
        return await _create_job(responder, job, responses=[record_key])


async def _create_job(responder: PreviewResponder, job: NewJob, *, responses: Sequence[str] = ()) -> Response:
    return await responder.create_job(
        job.request, job.objects, reference_seconds=job.reference_seconds, responses=responses
    )


def _timeout(accepted: Response, resources: Resources) -> Response:
    """Return an error in place of 202, which OpenAI's API does not have.  The job continues."""
    seconds, job_id = resources.settings.preview_wait_seconds, accepted.headers["X-Job-Id"]
    response = problems.response(
        503,
        "not_ready",
        f"The audio was not ready within {seconds:g} seconds; send the same request again.",
        job_id=job_id,
        retry_after=int(accepted.headers["Retry-After"]),
    )
    response.headers["X-Job-Id"] = job_id
    return response
