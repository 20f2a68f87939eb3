"""`/jobs/{job_id}/events`: what happens to a job, as server-sent events."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from functions.access.access_control import AccessControl
from functions.http.previews.job_event_stream import MEDIA_TYPE, JobEvents, JobEventsResponse
from functions.http.previews.job_events import END_ID
from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, access_control_of, requires
from functions.http.routing.dependencies import (
    FromCaller,
    FromConnectionLimits,
    FromQueueDepth,
    FromResources,
    FromWaiters,
)
from functions.previews.received_progress import ReceivedProgress
from pipeline import deadlines
from pipeline.access.api_keys import Caller
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Subscriber
from pipeline.domain import jobs
from pipeline.errors import NotFound, TooMany, Unavailable

router = APIRouter(tags=["jobs"], route_class=AuthorizedRoute)

LastEventId = Annotated[str, Header(description="The last event's id, to continue after it; EventSource sends it")]

# Neither a cache nor a proxy may hold the events back; the content type has no charset, as it is always UTF-8.
_HEADERS = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_FORGET_SECONDS = 5.0

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
        "description": "The events: `queued`, `started`, `progress`, and at the end `completed` or `failed`",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}},
        "headers": {
            "Cache-Control": {"description": "`no-store`", "schema": {"type": "string"}},
        },
    },
    204: {"description": "`Last-Event-ID` is the job's last event: nothing follows, and EventSource stops"},
    **problems.answers(NotFound.code, TooMany.code, Unavailable.code),
}


@router.get(
    "/jobs/{job_id}/events",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=requires("preview"),
)
async def follow_job(
    job_id: str,
    caller: FromCaller,
    resources: FromResources,
    waiters: FromWaiters,
    queue_depth: FromQueueDepth,
    limits: FromConnectionLimits,
    request: Request,
    last_event_id: LastEventId = "",
) -> Response:
    """Send a job's events until it has ended; the data of each is the message that a WebSocket client receives.

    Where responses can't be streamed, as in the cloud, the response is complete: the events so far, without
    `started` and `progress`, and `retry`, so that an EventSource asks again for what follows.
    """
    job = await jobs.read(resources, caller.owner, job_id)
    if job.outcome and last_event_id == END_ID:
        return Response(status_code=204)
    events = JobEvents(resources, queue_depth, caller.owner, job_id, last_event_id)
    if waiters.endpoint is None:
        return Response(await events.so_far(job), headers=_HEADERS)
    received = ReceivedProgress()
    async with AsyncExitStack() as opened:
        opened.enter_context(limits.of_address(request.client.host if request.client else ""))
        opened.enter_context(limits.of_key(caller.key_id))
        waiter = opened.enter_context(waiters.waiter(received))
        if waiter.subscriber and not job.outcome:
            await opened.enter_async_context(_subscribed(resources, job_id, waiter.subscriber))
        frames = events.until_end(waiter, received, partial(_is_allowed, access_control_of(request), caller))
        seconds = resources.settings.job_deadline.total_seconds()
        response = JobEventsResponse(frames, opened.pop_all(), seconds)
    response.headers.update(_HEADERS)
    return response


async def _is_allowed(access_control: AccessControl, caller: Caller) -> bool:
    try:
        return await access_control.is_key_still_valid(caller)
    except Unavailable:
        return True


@asynccontextmanager
async def _subscribed(resources: Resources, job_id: str, subscriber: Subscriber) -> AsyncIterator[None]:
    key = layout.subscriber(job_id, subscriber.reply_to.connection_id)
    await resources.bucket.put(key, subscriber.to_json(), JSON)
    try:
        yield
    finally:
        with suppress(Unavailable), deadlines.within(_FORGET_SECONDS):
            await resources.bucket.delete([key])
