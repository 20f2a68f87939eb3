"""`/preview`, `/preview-from-voice` and `/previews`: a voice speaks, and what it said is served."""

from collections.abc import Awaitable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from functions.http import problems
from functions.http.authorized_route import AuthorizedRoute, requires
from functions.http.dependencies import FromCaller, FromResources, FromWaiters
from functions.http.parameters.if_range import IfRange
from functions.http.parameters.options import FromOptions, NoOtherFields
from functions.http.parameters.prefer import patience
from functions.http.parameters.ranges import WHOLE, Span
from functions.http.routes.jobs import JobView, Signed, view
from functions.previews.completion_waiters import Waiters
from functions.previews.queue_depth import Backlog
from functions.previews.requests import addressed, preview_request, queued, reference_id_of
from pipeline.access.owners import new_id, owns
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import PreconditionFailed, RangeNotSatisfiable, StoredObject
from pipeline.contract import layout, records, retention
from pipeline.contract.events import audio_url
from pipeline.domain import jobs, presigned_urls, sessions
from pipeline.domain.presigned_urls import DISPOSITION
from pipeline.errors import (
    DeadlineExceeded,
    Expired,
    InvalidInput,
    NotFound,
    NotReady,
    SynthesisFailed,
    TooLarge,
    Unavailable,
)
from pipeline.ids import Owner, is_id
from pipeline.logs import current_correlation_id
from pipeline.settings import Settings

router = APIRouter(tags=["previews"], route_class=AuthorizedRoute)

_STRING: dict[str, Any] = {"schema": {"type": "string"}}
_AUDIO_CONTENT = {WAV: {"schema": {"type": "string", "format": "binary"}}}
_EXPIRES = {"description": "When the preview can no longer be had", **_STRING}
_CACHE_CONTROL = {"description": "`private`: a voice is somebody's own", **_STRING}
_APPLIED = {"description": "RFC 7240: which preference was honoured", **_STRING}

# A signed URL holds to the second; a preview may end within one.

_OF_THE_JOB = {
    "X-Job-Id": {"description": "The job, when one was made", **_STRING},
    "X-Session-Id": {"description": "The session of the reference, when it is an upload", **_STRING},
    "Preference-Applied": _APPLIED,
}

_REDIRECTED = {
    "Expires": _EXPIRES,
    "Location": {"description": "The preview, at a signed URL that ends with it", **_STRING},
}

_SPOKEN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The preview",
        "content": _AUDIO_CONTENT,
        "headers": {
            "Cache-Control": _CACHE_CONTROL,
            "Content-Disposition": {"description": "Names `preview.wav`", **_STRING},
            "Content-Location": {"description": "Where the preview can be had again", **_STRING},
            "Expires": _EXPIRES,
            **_OF_THE_JOB,
        },
    },
    202: {
        "description": "Not ready yet: the job goes on",
        "model": JobView,
        "headers": {
            "Location": {"description": "The job", **_STRING},
            "Retry-After": {"description": "Seconds after which to ask", "schema": {"type": "integer"}},
            **_OF_THE_JOB,
        },
    },
    303: {
        "description": "The preview is larger than an answer may be: it is to be had at `Location`",
        "headers": {
            "Cache-Control": _CACHE_CONTROL,
            "Content-Location": {"description": "Where the preview can be had again", **_STRING},
            **_REDIRECTED,
            **_OF_THE_JOB,
        },
    },
    **problems.answers(
        InvalidInput.code,
        NotFound.code,
        Expired.code,
        TooLarge.code,
        SynthesisFailed.code,
        DeadlineExceeded.code,
        Unavailable.code,
    ),
}
for _status in set(_SPOKEN) - {200, 202, 303}:
    # A job that failed, or could not be waited for, has its id all the same.
    _SPOKEN[_status] = _SPOKEN[_status] | {"headers": _OF_THE_JOB}

ResponseText = Annotated[str, Form(description="What to say")]
Prefer = Annotated[
    list[str] | None, Header(description="RFC 7240: `respond-async` answers 202 at once, `wait=N` waits N seconds")
]


@router.post(
    "/preview",
    response_class=Response,
    responses=_SPOKEN,
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
    responses=_SPOKEN,
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
    stored = await resources.bucket.read(key, range_=_asked_of_storage(None, resources.settings))
    if stored is None:
        raise Expired("The preview expired before it could be sent.", field="job_id")
    headers = {"Content-Location": audio_url(request.job_id)}
    if not _is_all(None, stored):
        return await _elsewhere(resources, request.job_id, expires_at, headers)
    headers |= {"Content-Disposition": DISPOSITION, "Expires": _http_date(expires_at), "Cache-Control": "private"}
    return Response(stored.body, media_type=WAV, headers=headers)


def _asked_of_storage(wanted: Span | None, settings: Settings) -> str | None:
    """Ask for no more than can be answered: whether there is more is told with it."""
    limit = settings.answer_max_bytes
    return (wanted or WHOLE).header(limit) if wanted or limit else None


def _is_all(wanted: Span | None, stored: StoredObject) -> bool:
    return stored.content_range is None or (wanted or WHOLE).is_met_by(stored.content_range)


async def _elsewhere(
    resources: Resources, job_id: str, expires_at: datetime, headers: dict[str, str] | None = None
) -> Response:
    """Send the client to the storage, until the preview expires."""
    url = await presigned_urls.signed(resources, job_id, expires_at)
    there = {"Location": url, "Expires": _http_date(expires_at), "Cache-Control": "private"}
    return Response(status_code=303, headers=there | (headers or {}))


async def _accepted(backlog: Backlog, request: records.Request) -> Response:
    ahead = await backlog.ahead()
    seen = view(queued(request), ahead)
    retry = backlog.retry_seconds(request.created_at, ahead)
    headers = {"Location": f"/jobs/{request.job_id}", "Retry-After": str(retry)}
    return JSONResponse(seen.model_dump(mode="json", exclude_none=True), 202, headers=headers)


def _identity(request: records.Request) -> dict[str, str]:
    session_id = request.source.session_id
    return {"X-Job-Id": request.job_id} | ({"X-Session-Id": session_id} if session_id else {})


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


_SERVED_HEADERS = {
    "Accept-Ranges": {"description": "`bytes`", **_STRING},
    "Cache-Control": _CACHE_CONTROL,
    "Content-Disposition": {"description": "Names `preview.wav`", **_STRING},
    "ETag": {"description": "Version of the audio", **_STRING},
    "Expires": _EXPIRES,
    "Last-Modified": {"description": "When it was made", **_STRING},
}
_SERVED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The preview", "content": _AUDIO_CONTENT, "headers": _SERVED_HEADERS},
    206: {
        "description": "The range asked for",
        "content": _AUDIO_CONTENT,
        "headers": {**_SERVED_HEADERS, "Content-Range": {"description": "Which range of how much", **_STRING}},
    },
    304: {"description": "The client has this version", "headers": _SERVED_HEADERS},
    303: {
        "description": "What is asked for is larger than an answer may be: it is to be had at `Location`",
        "headers": {"Cache-Control": _CACHE_CONTROL, **_REDIRECTED},
    },
    416: {
        "description": "The range lies outside of the audio",
        "headers": {"Content-Range": {"description": "How many bytes there are", **_STRING}},
    },
    **problems.answers(InvalidInput.code, NotFound.code, Expired.code, Unavailable.code),
}
_SERVED[404] = _SERVED[404] | {
    "headers": {
        "Retry-After": {
            "description": "Seconds after which to ask again, while the job is queued",
            "schema": {"type": "integer"},
        }
    }
}


@router.get("/previews/{job_id}.wav", response_class=Response, responses=_SERVED, openapi_extra=requires("preview"))
@router.head(
    "/previews/{job_id}.wav",
    response_class=Response,
    responses={status: answer for status, answer in _SERVED.items() if status not in {206, 303, 416}},
    openapi_extra=requires("preview"),
)
async def get_preview(
    job_id: str,
    caller: FromCaller,
    request: Request,
    resources: FromResources,
    waiters: FromWaiters,
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes")] = None,
    if_range: IfRange = None,
    if_none_match: Annotated[str | None, Header(description="ETag that the client has")] = None,
    signed: Signed = False,
) -> Response:
    """Serve a preview, until 20 minutes after it was made."""
    wanted = Span.of(range_) if range_ and request.method == "GET" else None
    try:
        wanted, stored = await _read(resources, caller.owner, job_id, wanted, if_range)
    except RangeNotSatisfiable:
        return await _not_satisfiable(resources, job_id)
    if stored is None:
        await _explain_absence(resources, caller.owner, waiters.backlog, job_id)
        raise _expired()
    expires_at = retention.preview_expires_at(stored.last_modified, resources.settings)
    if expires_at <= resources.clock():
        raise _expired()
    if if_none_match and _names(if_none_match, stored.etag):
        return Response(status_code=304, headers=_served_headers(stored, expires_at))
    if request.method == "GET" and (signed or not _is_all(wanted, stored)):
        return await _elsewhere(resources, job_id, expires_at)
    return _served(request.method, wanted, stored, _served_headers(stored, expires_at))


def _served_headers(stored: StoredObject, expires_at: datetime) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": DISPOSITION,
        "ETag": stored.etag,
        "Expires": _http_date(expires_at),
        "Last-Modified": _http_date(stored.last_modified),
        "Cache-Control": "private",
    }


def _served(method: str, wanted: Span | None, stored: StoredObject, headers: dict[str, str]) -> Response:
    if wanted is not None and stored.content_range:
        there = {"Content-Range": stored.content_range, "Content-Length": str(len(stored.body))}
        return Response(stored.body, 206, headers | there, media_type=WAV)
    body = b"" if method == "HEAD" else stored.body
    return Response(body, 200, headers | {"Content-Length": str(stored.size)}, media_type=WAV)


async def _read(
    resources: Resources, owner: Owner, job_id: str, wanted: Span | None, if_range: str | None
) -> tuple[Span | None, StoredObject | None]:
    """Read what is wanted, or all of it where `If-Range` says so; tell which it was."""
    if not is_id(job_id):
        raise NotFound(f"There is no preview {job_id[:64]!r}.", field="job_id")
    if not owns(owner, job_id):
        return wanted, None
    key, settings = layout.preview(job_id), resources.settings
    if if_range and not if_range.startswith('"'):
        # A date, or a weak ETag, which RFC 9110 does not let a range depend on.
        wanted = None
    try:
        condition = if_range if wanted else None
        return wanted, await resources.bucket.read(
            key, range_=_asked_of_storage(wanted, settings), if_match=condition
        )
    except PreconditionFailed:
        return None, await resources.bucket.read(key, range_=_asked_of_storage(None, settings))


async def _explain_absence(resources: Resources, owner: Owner, backlog: Backlog, job_id: str) -> None:
    """Raise what fits a job without audio; return when there was some once."""
    if retention.job_expires_at(job_id, resources.settings) <= resources.clock():
        return
    job = await jobs.read(resources, owner, job_id)
    if job.status == "queued":
        retry_after = backlog.retry_seconds(job.created_at, await backlog.ahead())
        raise NotReady("The preview is not ready yet.", field="job_id", retry_after=retry_after)
    if isinstance(job.outcome, records.Failed):
        raise NotFound(f"The job made no preview: {job.outcome.message}", field="job_id")


async def _not_satisfiable(resources: Resources, job_id: str) -> Response:
    info = await resources.bucket.head(layout.preview(job_id))
    if info is None or retention.preview_expires_at(info.last_modified, resources.settings) <= resources.clock():
        raise _expired()
    size = info.size
    answer = problems.response(416, "range_not_satisfiable", f"The preview has {size} bytes.")
    answer.headers["Content-Range"] = f"bytes */{size}"
    return answer


def _names(if_none_match: str, etag: str) -> bool:
    given = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag in given or "*" in given


def _expired() -> Expired:
    return Expired("The preview has expired; previews are kept for a short while only.", field="job_id")
