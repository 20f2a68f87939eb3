"""`/references/check`: checks of a reference recording."""

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import Field

from functions.http.parameters.options import NoOtherFields
from functions.http.parameters.prefer import parse_prefer
from functions.http.previews.openapi_responses import GENERATED
from functions.http.previews.response import Prefer, accepted, with_preference
from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromServices
from functions.previews.reference_checks import check_session, longest_wait
from pipeline.access.owners import new_id
from pipeline.clients.storage import NewObject
from pipeline.contract.records import Failed, Outcome, ReferenceCheck
from pipeline.domain import sessions
from pipeline.errors import Expired, InvalidAudio, InvalidInput, NotFound, TooLarge, Unavailable

router = APIRouter(tags=["uploads"], route_class=AuthorizedRoute)

_ERRORS = (InvalidInput, InvalidAudio, TooLarge, NotFound, Expired, Unavailable)


class CheckedReference(ReferenceCheck):
    """A session, and the result of the checks of its recording."""

    session_id: str = Field(description="The session of the recording, for previews and saved voices")
    job_id: str


@router.post(
    "/references/check",
    response_model=CheckedReference,
    response_model_exclude_none=True,
    responses={
        202: GENERATED[202],
        **problems.answers(*(error.code for error in _ERRORS)),
    },
    dependencies=[NoOtherFields],
    openapi_extra=requires("preview"),
)
async def check_reference(
    caller: FromCaller,
    services: FromServices,
    http_request: Request,
    audio: Annotated[UploadFile | None, File(description="The recording: WAV, FLAC, OGG or MP3")] = None,
    transcription: Annotated[str, Form(description="Transcription of the recording; may be blank")] = "",
    session_id: Annotated[str | None, Form(description="An earlier upload, instead of `audio`")] = None,
    _prefer: Prefer = "",
) -> Response | CheckedReference:
    """Check a recording before a voice is cloned from it: speech, noise, clipping, speakers and transcription.

    The recording is stored as a session. The worker runs the checks without the speech model.
    """
    resources = services.resources
    objects, seconds = list[NewObject](), 0.0
    if session_id is not None:
        if audio is not None or transcription:
            raise _one_of_both()
        await sessions.require(resources, caller.owner, session_id)
    elif audio is not None:
        transcription = sessions.check_transcription(transcription, resources.settings)
        recording = await sessions.check_reference(resources, audio.read)
        session_id, seconds = new_id(resources.new_id, caller.owner), recording.duration_seconds
        objects = sessions.objects(session_id, recording, transcription)
    else:
        raise _one_of_both()
    prefer = http_request.headers.getlist("prefer")
    wait_seconds, applied = parse_prefer(prefer, longest_wait(resources))
    job = await check_session(
        resources,
        services.waiters,
        caller.owner,
        session_id,
        objects,
        reference_seconds=seconds,
        wait_seconds=wait_seconds,
    )
    if job.outcome is None:
        response = await accepted(services, job, root_path=http_request.scope.get("root_path", ""))
        response.headers.update({"X-Job-Id": job.job_id, "X-Session-Id": session_id})
        return with_preference(response, applied)
    return _response(job.outcome, session_id)


def _response(outcome: Outcome, session_id: str) -> Response | CheckedReference:
    if isinstance(outcome, Failed):
        return problems.of_code(outcome.code, outcome.message, outcome.field, job_id=outcome.job_id)
    check = outcome.reference_check or ReferenceCheck()
    return CheckedReference(**check.model_dump(), session_id=session_id, job_id=outcome.job_id)


def _one_of_both() -> InvalidInput:
    return InvalidInput(
        "Send either audio, a recording, or session_id, an earlier upload without transcription.", field="audio"
    )
