"""`GET /previews/{job_id}.wav`, `.mp3` …: the audio of a preview, until it expires."""

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Header, Request, Response

from functions.http.parameters.if_range import IfRange
from functions.http.parameters.ranges import WHOLE, Span
from functions.http.responses import problems
from functions.http.routes.jobs import Signed
from functions.http.routes.previews.documented_responses import SERVED, TRANSCODED
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromQueueDepth, FromResources
from functions.previews.queue_depth import QueueDepth
from functions.previews.urls import audio_url
from pipeline.access.owners import owns
from pipeline.audio.output_formats import FORMATS, OutputFormat, transcode
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import ObjectInfo, PreconditionFailed, RangeNotSatisfiable, StoredObject
from pipeline.contract import layout, records, retention
from pipeline.domain import jobs, presigned_urls
from pipeline.domain.presigned_urls import DISPOSITION
from pipeline.errors import Expired, NotFound, NotReady, TooLarge
from pipeline.ids import Owner, is_id
from pipeline.settings import Settings

FoundT = TypeVar("FoundT", ObjectInfo, StoredObject)

router = APIRouter(tags=["previews"], route_class=AuthorizedRoute)


@router.get("/previews/{job_id}.wav", response_class=Response, responses=SERVED, openapi_extra=requires("preview"))
@router.head(
    "/previews/{job_id}.wav",
    response_class=Response,
    responses={status: answer for status, answer in SERVED.items() if status not in {206, 303, 416}},
    openapi_extra=requires("preview"),
)
async def get_preview(
    job_id: str,
    caller: FromCaller,
    request: Request,
    resources: FromResources,
    queue_depth: FromQueueDepth,
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes")] = None,
    if_range: IfRange = None,
    if_none_match: Annotated[str | None, Header(description="ETag that the client has")] = None,
    signed: Signed = False,
) -> Response:
    """Return a preview's audio, until 20 minutes after it was generated."""
    key = _key(caller.owner, job_id)
    kept = partial(_kept, resources, caller.owner, queue_depth, job_id)
    if request.method == "HEAD" or signed or if_none_match:
        info, expires_at = await kept(await resources.bucket.head(key) if key else None)
        headers = _served_headers(info, expires_at)
        if if_none_match and _names(if_none_match, info.etag):
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers | {"Content-Length": str(info.size)}, media_type=WAV)
        if signed:
            return await elsewhere(resources, job_id, expires_at)
    wanted = Span.of(range_) if range_ else None
    try:
        wanted, found = await _read(resources, key, wanted, if_range) if key else (wanted, None)
    except RangeNotSatisfiable:
        return await _not_satisfiable(resources, job_id)
    stored, expires_at = await kept(found)
    if not is_all(wanted, stored):
        return await elsewhere(resources, job_id, expires_at)
    return _served(wanted, stored, _served_headers(stored, expires_at))


@router.get(
    "/previews/{job_id}.{extension}",
    response_class=Response,
    responses=TRANSCODED,
    openapi_extra=requires("preview"),
)
async def get_transcoded_preview(
    job_id: str,
    extension: Literal["flac", "mp3", "opus", "aac", "pcm"],
    caller: FromCaller,
    resources: FromResources,
    queue_depth: FromQueueDepth,
    if_none_match: Annotated[str | None, Header(description="ETag that the client has")] = None,
) -> Response:
    """Return a preview in another format than the stored WAV."""
    key, format_ = _key(caller.owner, job_id), FORMATS[extension]
    kept = partial(_kept, resources, caller.owner, queue_depth, job_id)
    info, expires_at = await kept(await resources.bucket.head(key) if key else None)
    etag = f'{info.etag[:-1]}-{extension}"'
    headers = _served_headers(info, expires_at) | audio_headers(job_id, format_) | {"ETag": etag}
    del headers["Accept-Ranges"]
    if if_none_match and _names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    stored, _ = await kept(await resources.bucket.read(info.key))
    body = await transcoded(stored.body, format_, resources.settings)
    return Response(body, media_type=format_.media_type, headers=headers)


def _key(owner: Owner, job_id: str) -> str | None:
    """Return the key of a preview; None for a job that belongs, or may belong, to another owner."""
    if not is_id(job_id):
        raise NotFound(f"There is no preview {job_id[:64]!r}.", field="job_id")
    return layout.preview(job_id) if owns(owner, job_id) else None


async def _kept(
    resources: Resources, owner: Owner, queue_depth: QueueDepth, job_id: str, found: FoundT | None
) -> tuple[FoundT, datetime]:
    """Return the object and its expiry; raise the error that explains why it does not exist, or no longer."""
    if found is None:
        await _explain_absence(resources, owner, queue_depth, job_id)
        raise _expired()
    expires_at = retention.preview_expires_at(found.last_modified, resources.settings)
    if expires_at <= resources.clock():
        raise _expired()
    return found, expires_at


def _served_headers(stored: ObjectInfo | StoredObject, expires_at: datetime) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": DISPOSITION,
        "ETag": stored.etag,
        "Expires": http_date(expires_at),
        "Last-Modified": http_date(stored.last_modified),
        "Cache-Control": "private",
    }


def _served(wanted: Span | None, stored: StoredObject, headers: dict[str, str]) -> Response:
    if wanted is not None and stored.content_range:
        headers = headers | {"Content-Range": stored.content_range}
        return Response(stored.body, 206, headers, media_type=WAV)
    return Response(stored.body, 200, headers, media_type=WAV)


async def _read(
    resources: Resources, key: str, wanted: Span | None, if_range: str | None
) -> tuple[Span | None, StoredObject | None]:
    """Read the requested range, or all of it if `If-Range` does not match; return which it was."""
    settings = resources.settings
    if if_range and not if_range.startswith('"'):
        # A date, or a weak ETag, which RFC 9110 does not allow as the condition of a range.
        wanted = None
    try:
        condition = if_range if wanted else None
        return wanted, await resources.bucket.read(
            key, range_=asked_of_storage(wanted, settings), if_match=condition
        )
    except PreconditionFailed:
        return None, await resources.bucket.read(key, range_=asked_of_storage(None, settings))


async def _explain_absence(resources: Resources, owner: Owner, queue_depth: QueueDepth, job_id: str) -> None:
    """Raise the error for a job without audio; return if it had audio that has expired."""
    if retention.job_expires_at(job_id, resources.settings) <= resources.clock():
        return
    job = await jobs.read(resources, owner, job_id)
    if job.status == "queued":
        retry_after = queue_depth.retry_seconds(job.created_at, await queue_depth.ahead())
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


def asked_of_storage(wanted: Span | None, settings: Settings) -> str | None:
    """Return the range to request from the storage: at most as much as a response can have."""
    limit = settings.answer_max_bytes
    return (wanted or WHOLE).header(limit) if wanted or limit else None


def is_all(wanted: Span | None, stored: StoredObject) -> bool:
    """Return whether all that was requested was read."""
    return stored.content_range is None or (wanted or WHOLE).is_met_by(stored.content_range)


async def elsewhere(
    resources: Resources, job_id: str, expires_at: datetime, headers: dict[str, str] | None = None
) -> Response:
    """Return a redirect to the storage, valid until the preview expires."""
    url = await presigned_urls.signed(resources, job_id, expires_at)
    there = {"Location": url, "Expires": http_date(expires_at), "Cache-Control": "private"}
    return Response(status_code=303, headers=there | (headers or {}))


def audio_headers(job_id: str, format_: OutputFormat) -> dict[str, str]:
    """Return the headers of a response with audio."""
    headers = {
        "Cache-Control": "private",
        "Content-Disposition": f'inline; filename="preview.{format_.name}"',
        "Vary": "Accept",
    }
    # At another speed, it is at no other address.
    return headers | ({"Content-Location": audio_url(job_id, format_.name)} if format_.speed == 1 else {})


async def transcoded(wav: bytes, format_: OutputFormat, settings: Settings) -> bytes:
    """Return the stored audio in another format.

    Raises
    ------
    TooLarge
        It exceeds the size limit of a response.
    """
    if format_.is_as_stored:
        return wav
    body = await asyncio.to_thread(transcode, wav, format_)
    if settings.answer_max_bytes and len(body) > settings.answer_max_bytes:
        raise TooLarge(f"As {format_.name} the preview is too large to be answered; ask for mp3.", field="format")
    return body


def http_date(moment: datetime) -> str:
    """Return a moment in the format of HTTP headers."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
