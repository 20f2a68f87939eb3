"""Signed links to one preview or one upload, for clients that can't reach the storage."""

from typing import Annotated

from fastapi import APIRouter, File, Query, Response, UploadFile

from functions.http.parameters.ranges import FromFileRequest
from functions.http.previews.audio import linked_preview
from functions.http.routing.authorized_route import AuthorizedRoute, public
from functions.http.routing.dependencies import FromResources
from pipeline.clients.resources import Resources
from pipeline.domain import presigned_urls, sessions
from pipeline.errors import NotFound

router = APIRouter(route_class=AuthorizedRoute, include_in_schema=False)

Expires = Annotated[int, Query(ge=0, lt=2**40)]
Signature = Annotated[str, Query(max_length=64)]


@router.get(presigned_urls.PREVIEW_PATH, openapi_extra=public())
async def get_preview(
    job_id: str,
    expires: Expires,
    signature: Signature,
    resources: FromResources,
    file_request: FromFileRequest,
) -> Response:
    """Return the preview that the link is for, or one range of it."""
    _verify(resources, presigned_urls.PREVIEW_PATH.format(job_id=job_id), expires, signature)
    return await linked_preview(resources, job_id, file_request)


@router.post(presigned_urls.UPLOAD_PATH, status_code=204, openapi_extra=public())
async def upload(
    session_id: str,
    expires: Expires,
    signature: Signature,
    resources: FromResources,
    file: Annotated[UploadFile, File()],
) -> None:
    """Store a recording for the session that the link is for. It is validated at its first use."""
    _verify(resources, presigned_urls.UPLOAD_PATH.format(session_id=session_id), expires, signature)
    await sessions.store_unchecked(resources, session_id, await file.read())


def _verify(resources: Resources, path: str, expires: int, signature: str) -> None:
    if resources.path_signer is None:
        raise NotFound("This service does not serve signed links; they are URLs of the storage.")
    resources.path_signer.verify(path, expires, signature)
