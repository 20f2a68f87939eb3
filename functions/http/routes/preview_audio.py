"""`GET /previews/{job_id}.wav`, `.mp3` …: the audio of a preview, until it expires."""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from functions.http.parameters.ranges import FromFileRequest
from functions.http.previews.audio import Signed, stored_preview, transcoded_preview
from functions.http.previews.openapi_responses import SERVED, TRANSCODED
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromServices
from pipeline.audio.output_formats import FASTEST, FORMATS, SLOWEST

Speed = Annotated[
    float, Query(ge=SLOWEST, le=FASTEST, description="Speed of the audio, without a change of its pitch")
]

router = APIRouter(tags=["previews"], route_class=AuthorizedRoute)


@router.get("/previews/{job_id}.wav", response_class=Response, responses=SERVED, openapi_extra=requires("preview"))
@router.head(
    "/previews/{job_id}.wav",
    response_class=Response,
    responses={status: response for status, response in SERVED.items() if status not in {206, 303, 416}},
    operation_id="headPreview",
    openapi_extra=requires("preview"),
)
async def get_preview(
    job_id: str,
    caller: FromCaller,
    services: FromServices,
    request: Request,
    file_request: FromFileRequest,
    signed: Signed = False,
    speed: Speed = 1,
) -> Response:
    """Return the audio of a preview. It expires 20 minutes after it was generated."""
    if speed != 1 and not signed:
        return await transcoded_preview(
            services, caller.owner, job_id, replace(FORMATS["wav"], speed=speed), file_request, request.receive
        )
    return await stored_preview(
        services, caller.owner, job_id, file_request, signed=signed, without_body=request.method == "HEAD"
    )


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
    services: FromServices,
    request: Request,
    file_request: FromFileRequest,
    speed: Speed = 1,
) -> Response:
    """Return a preview in another format than WAV, in which it is stored."""
    format_ = replace(FORMATS[extension], speed=speed)
    return await transcoded_preview(services, caller.owner, job_id, format_, file_request, request.receive)
