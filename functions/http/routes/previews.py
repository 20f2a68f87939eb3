"""`/preview` and `/preview-from-voice`: a voice speaks."""

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Response, UploadFile
from fastapi.responses import JSONResponse

from functions.http import problems
from functions.http.authorized_route import AuthorizedRoute, requires
from functions.http.dependencies import FromCaller, FromResources, FromWaiters
from functions.http.parameters.options import FromOptions, NoOtherFields
from functions.http.parameters.prefer import patience
from functions.http.routes.jobs import view
from functions.http.routes.preview_audio import asked_of_storage, elsewhere, http_date, is_all
from functions.http.routes.preview_responses import GENERATED
from functions.previews.completion_waiters import Waiters
from functions.previews.queue_depth import Backlog
from functions.previews.requests import addressed, preview_request, queued, reference_id_of
from pipeline.access.owners import new_id
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.contract import layout, records
from pipeline.contract.events import audio_url
from pipeline.domain import jobs, sessions
from pipeline.domain.presigned_urls import DISPOSITION
from pipeline.errors import Expired, InvalidInput
from pipeline.logs import current_correlation_id

router = APIRouter(tags=["previews"], route_class=AuthorizedRoute)

ResponseText = Annotated[str, Form(description="What to say")]
Prefer = Annotated[
    list[str] | None, Header(description="RFC 7240: `respond-async` answers 202 at once, `wait=N` waits N seconds")
]


@router.post(
    "/preview",
    response_class=Response,
    responses=GENERATED,
    dependencies=[NoOtherFields],
    openapi_extra=requires("preview"),
)
async def preview(
    caller: FromCaller,
    resources: FromResources,
    waiters: FromWaiters,
    response_text: ResponseText,
    options: FromOptions,
    audio: Annotated[UploadFile | None, File(description="The recording: WAV, FLAC, OGG or MP3")] = None,
    transcription: Annotated[str, Form(description="What is said in it; may be blank")] = "",
    session_id: Annotated[str | None, Form(description="An earlier upload, in place of `audio`")] = None,
    prefer: Prefer = None,
) -> Response:
    """Clone the voice of a recording and let it speak; the answer is the WAV, or 202 when that takes longer."""
    text = jobs.check_text(response_text, resources.settings, field="response_text")
    if (audio is None) == (session_id is None):
        raise InvalidInput("Give either audio, a recording, or session_id, an earlier upload.", field="audio")
    if audio is None:
        source = records.Source(session_id=session_id, owner=caller.owner)
        return await _from_source(resources, waiters, source, text, options, prefer)
    said = sessions.check_transcription(transcription, resources.settings)
    recording = await sessions.check_reference(resources, audio.read)
    new_session = new_id(resources.new_id, caller.owner)
    request = preview_request(
        resources,
        records.Source(session_id=new_session, owner=caller.owner),
        new_session,
        text,
        options,
        correlation_id=current_correlation_id(),
        new_reference=records.NewReference(transcription=said),
    )
    upload = sessions.store(resources, caller.owner, new_session, recording, said)
    return await _speak(resources, waiters, request, prefer, upload)


@router.post(
    "/preview-from-voice",
    response_class=Response,
    responses=GENERATED,
    dependencies=[NoOtherFields],
    openapi_extra=requires("preview"),
)
async def preview_from_voice(
    caller: FromCaller,
    resources: FromResources,
    waiters: FromWaiters,
    voice_id: Annotated[str, Form(description="A saved voice")],
    response_text: ResponseText,
    options: FromOptions,
    prefer: Prefer = None,
) -> Response:
    """Let a saved voice speak; the answer is the WAV, or 202 when that takes longer."""
    text = jobs.check_text(response_text, resources.settings, field="response_text")
    source = records.Source(voice_id=voice_id, owner=caller.owner)
    return await _from_source(resources, waiters, source, text, options, prefer)


async def _from_source(
    resources: Resources,
    waiters: Waiters,
    source: records.Source,
    text: str,
    options: records.Options,
    prefer: list[str] | None,
) -> Response:
    reference_id = await reference_id_of(resources, source)
    request = preview_request(
        resources, source, reference_id, text, options, correlation_id=current_correlation_id()
    )
    return await _speak(resources, waiters, request, prefer)


async def _speak(
    resources: Resources,
    waiters: Waiters,
    request: records.Request,
    prefer: list[str] | None,
    *uploads: Awaitable[object],
) -> Response:
    seconds, applied = patience(prefer or (), resources.settings.preview_wait_seconds)
    reply_to = waiters.reply_to(request.job_id) if seconds else None
    with waiters.expect(request.job_id) as expectation:
        await jobs.accept(resources, addressed(request, reply_to, id_withheld=reply_to is not None), *uploads)
        message = await expectation.wait(seconds) if seconds else None
    answer = await (_answer(resources, request, message) if message else _accepted(waiters.backlog, request))
    answer.headers.update(_identity(request))
    if applied:
        answer.headers["Preference-Applied"] = applied
    return answer


async def _answer(resources: Resources, request: records.Request, message: dict[str, Any]) -> Response:
    data = message["data"]
    if message["type"] == "error":
        return problems.of_code(data["code"], data["message"], data.get("field"), job_id=request.job_id)
    key, expires_at = layout.preview(request.job_id), datetime.fromisoformat(data["expires_at"])
    stored = await resources.bucket.read(key, range_=asked_of_storage(None, resources.settings))
    if stored is None:
        raise Expired("The preview expired before it could be sent.", field="job_id")
    headers = {"Content-Location": audio_url(request.job_id)}
    if not is_all(None, stored):
        return await elsewhere(resources, request.job_id, expires_at, headers)
    headers |= {"Content-Disposition": DISPOSITION, "Expires": http_date(expires_at), "Cache-Control": "private"}
    return Response(stored.body, media_type=WAV, headers=headers)


async def _accepted(backlog: Backlog, request: records.Request) -> Response:
    ahead = await backlog.ahead()
    seen = view(queued(request), ahead)
    retry = backlog.retry_seconds(request.created_at, ahead)
    headers = {"Location": f"/jobs/{request.job_id}", "Retry-After": str(retry)}
    return JSONResponse(seen.model_dump(mode="json", exclude_none=True), 202, headers=headers)


def _identity(request: records.Request) -> dict[str, str]:
    session_id = request.source.session_id
    return {"X-Job-Id": request.job_id} | ({"X-Session-Id": session_id} if session_id else {})
