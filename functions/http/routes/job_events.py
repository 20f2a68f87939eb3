"""`/jobs/{job_id}/events`: the progress of a job as server-sent events."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from functions.http.previews.job_event_stream import MEDIA_TYPE, job_event_response
from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromServices
from pipeline.errors import NotFound, TooMany, Unavailable

router = APIRouter(tags=["jobs"], route_class=AuthorizedRoute)

LastEventId = Annotated[str, Header(description="Id of the last received event, as EventSource sends it")]

_EXAMPLE = """\
event: queued
data: {"type": "progress", "data": {"job_id": "…", "status": "queued", "ahead": 2}}
id: queued 2

event: started
data: {"type": "progress", "data": {"job_id": "…", "take": "…", "status": "started", "restarted": false}}
id: started …

event: progress
data: {"type": "progress", "data": {"job_id": "…", "take": "…", "status": "generating", "audio_seconds": 3.52}}
id: progress … 3.52

event: completed
data: {"type": "tts_complete", "data": {"job_id": "…", "audio_url": "/previews/….wav", "duration_seconds": 7.5}}
id: end
"""

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events `queued`, `started` and `progress`, then `completed` or `failed`",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}},
        "headers": {
            "Cache-Control": {"description": "`no-store`", "schema": {"type": "string"}},
        },
    },
    204: {"description": "`Last-Event-ID` is the last event of the job. EventSource stops"},
    **problems.answers(NotFound.code, TooMany.code, Unavailable.code),
}


@router.get(
    "/jobs/{job_id}/events",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=requires("preview"),
)
async def get_job_events(
    job_id: str, caller: FromCaller, services: FromServices, request: Request, last_event_id: LastEventId = ""
) -> Response:
    """Send the events of a job until it has ended. Their data is the message that a WebSocket client receives.

    Where responses can't be streamed, as in the cloud, the response ends after the current events. It has no
    `started` and `progress` events. Its `retry` field makes an EventSource reconnect for the next events.
    """
    return await job_event_response(services, caller, request, job_id, last_event_id)
