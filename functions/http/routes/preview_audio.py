"""`GET /previews/{job_id}.wav`, `.mp3` …: the audio of a preview, until it expires."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response

from functions.http.parameters.if_range import IfRange
from functions.http.parameters.ranges import Span
from functions.http.previews import audio
from functions.http.previews.audio import Signed
from functions.http.previews.openapi_responses import SERVED, TRANSCODED
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromQueueDepth, FromResources
from pipeline.audio.output_formats import FORMATS
from pipeline.audio.wav import WAV
from pipeline.clients.storage import RangeNotSatisfiable

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
    key = audio.preview_key(caller.owner, job_id)
    kept = partial(audio.kept, resources, caller.owner, queue_depth, job_id)
    if request.method == "HEAD" or signed or if_none_match:
        info, expires_at = await kept(await resources.bucket.head(key) if key else None)
        headers = audio.served_headers(info, expires_at)
        if if_none_match and audio.names(if_none_match, info.etag):
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers | {"Content-Length": str(info.size)}, media_type=WAV)
        if signed:
            return await audio.elsewhere(resources, job_id, expires_at)
    wanted = Span.of(range_) if range_ else None
    try:
        wanted, found = await audio.read_range(resources, key, wanted, if_range) if key else (wanted, None)
    except RangeNotSatisfiable:
        return await audio.not_satisfiable(resources, job_id)
    stored, expires_at = await kept(found)
    if not audio.is_all(wanted, stored):
        return await audio.elsewhere(resources, job_id, expires_at)
    return audio.served(wanted, stored, audio.served_headers(stored, expires_at))


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
    key, format_ = audio.preview_key(caller.owner, job_id), FORMATS[extension]
    kept = partial(audio.kept, resources, caller.owner, queue_depth, job_id)
    info, expires_at = await kept(await resources.bucket.head(key) if key else None)
    etag = f'{info.etag[:-1]}-{extension}"'
    headers = audio.served_headers(info, expires_at) | audio.audio_headers(job_id, format_) | {"ETag": etag}
    del headers["Accept-Ranges"]
    if if_none_match and audio.names(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    stored, _ = await kept(await resources.bucket.read(info.key))
    body = await audio.transcoded(stored.body, format_, resources.settings)
    return Response(body, media_type=format_.media_type, headers=headers)
