"""The routes of signed links, for callers that can't reach the storage: one preview, or one upload."""

from typing import Annotated

from fastapi import APIRouter, File, Query, Request, Response, UploadFile

from functions.http.parameters.ranges import Span
from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, public
from functions.http.routing.dependencies import FromResources
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import RangeNotSatisfiable
from pipeline.contract import layout, retention
from pipeline.domain import presigned_urls, sessions
from pipeline.errors import NotFound

router = APIRouter(route_class=AuthorizedRoute, include_in_schema=False)

Expires = Annotated[int, Query(ge=0, lt=2**40)]
Signature = Annotated[str, Query(max_length=64)]


@router.get(presigned_urls.PREVIEW_PATH, openapi_extra=public())
async def get_preview(
    job_id: str, expires: Expires, signature: Signature, request: Request, resources: FromResources
) -> Response:
    """Return the preview that the link is for, or one range of it."""
    _verify(resources, request, expires, signature)
    # A condition on the range is treated as not met: the response is the whole file.
    wanted = None if "if-range" in request.headers else Span.of(request.headers.get("range", ""))
    try:
        stored = await resources.bucket.read(
            layout.preview(job_id), range_=wanted.header() if wanted is not None else None
        )
    except RangeNotSatisfiable:
        return problems.response(416, "range_not_satisfiable", "The range lies outside of the preview.")
    if stored is None:
        raise retention.preview_expired()
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private",
        "Content-Disposition": presigned_urls.DISPOSITION,
        "ETag": stored.etag,
    }
    if wanted is None or stored.content_range is None:
        return Response(stored.body, headers=headers, media_type=WAV)
    return Response(stored.body, 206, headers | {"Content-Range": stored.content_range}, media_type=WAV)


@router.post(presigned_urls.UPLOAD_PATH, status_code=204, openapi_extra=public())
async def upload(
    session_id: str,
    expires: Expires,
    signature: Signature,
    request: Request,
    resources: FromResources,
    file: Annotated[UploadFile, File()],
) -> None:
    """Store a recording for the session that the link is for; it is checked before its first use."""
    _verify(resources, request, expires, signature)
    await sessions.store_unchecked(resources, session_id, await file.read())


def _verify(resources: Resources, request: Request, expires: int, signature: str) -> None:
    if resources.path_signer is None:
        raise NotFound("Signed links lead to the storage itself here.")
    resources.path_signer.verify(request.url.path, expires, signature)
