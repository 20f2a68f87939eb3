"""The stream of a job's events, from its current state to its end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack

from fastapi import Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from functions.http.previews import job_events
from functions.http.previews.job_events import END_ID, JobEvent
from functions.http.services import Services
from functions.previews.completion_waiters import Waiter, subscribed
from functions.previews.queue_depth import QueueDepth
from functions.previews.received_progress import ReceivedProgress
from pipeline.access.api_keys import Caller
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources
from pipeline.domain import jobs
from pipeline.domain.jobs import Job
from pipeline.errors import Unavailable
from pipeline.ids import Owner

MEDIA_TYPE = "text/event-stream"
RETRY_SECONDS = 2
_READ_SECONDS = 8.0
# Caches and proxies must not hold events back. The content type has no charset: it is always UTF-8.
_HEADERS = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

IsAllowed = Callable[[], Awaitable[bool]]


async def job_event_response(
    services: Services, caller: Caller, client: HTTPConnection, job_id: str, last_event_id: str
) -> Response:
    """Return the response with the events of a job that follow the last one that the client received.

    Parameters
    ----------
    services, caller, job_id
        The job and its owner.
    client
        The client, whose open connections are limited by its address.
    last_event_id
        The id of the last event that the client received; "" for none.

    Raises
    ------
    NotFound
        No job of this owner has that id.
    TooMany
        The address or the key has too many open connections.
    """
    resources, waiters = services.resources, services.waiters
    job = await jobs.read(resources, caller.owner, job_id)
    if job.outcome and last_event_id == END_ID:
        return Response(status_code=204)
    events = JobEvents(
        resources, services.queue_depth, caller.owner, job_id, last_event_id, client.scope.get("root_path", "")
    )
    if waiters.endpoint is None:
        return Response(await events.so_far(job), headers=_HEADERS)

    async def is_allowed() -> bool:
        try:
            return await services.access_control.is_key_still_valid(caller)
        except Unavailable:
            return True

    received = ReceivedProgress()
    async with AsyncExitStack() as opened:
        opened.enter_context(services.connection_limits.of_address(client.client.host if client.client else ""))
        opened.enter_context(services.connection_limits.of_key(caller.key_id))
        waiter = opened.enter_context(waiters.waiter(job_id, received))
        if waiter.subscriber and not job.outcome:
            await opened.enter_async_context(subscribed(resources, job_id, waiter.subscriber))
        frames = events.until_end(waiter, received, is_allowed)
        seconds = resources.settings.job_deadline.total_seconds()
        response = JobEventsResponse(frames, opened.pop_all(), seconds)
    response.headers.update(_HEADERS)
    return response


class JobEventsResponse(StreamingResponse):
    """The response that is sent until a job has ended; closes `opened` at its end."""

    def __init__(self, frames: AsyncIterator[bytes], opened: AsyncExitStack, seconds: float) -> None:
        super().__init__(frames, media_type=MEDIA_TYPE)
        self._opened = opened
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, within the deadline of a job."""
        with deadlines.within(self._seconds):
            async with self._opened:
                await super().__call__(scope, receive, send)


class JobEvents:
    """The events of a job that a client has not received yet.

    Nothing is kept for a client that reads slowly: it continues with the state at the time when it reads.
    """

    heartbeat_seconds = 10.0
    # With the cache of key look-ups, a revoked key closes the stream within a minute, as for a WebSocket.
    key_check_seconds = 2.0

    def __init__(
        self,
        resources: Resources,
        queue_depth: QueueDepth,
        owner: Owner,
        job_id: str,
        last_id: str,
        root_path: str = "",
    ) -> None:
        self._resources = resources
        self._queue_depth = queue_depth
        self._owner = owner
        self._job_id = job_id
        self._last_id = last_id
        self._root_path = root_path

    async def so_far(self, job: Job) -> bytes:
        """Return the events that are known now, and when to ask for later ones."""
        known = self._unsent([await self._state(job)])
        retry = self._queue_depth.retry_seconds(job.created_at, await self._queue_depth.ahead())
        return b"".join(event.to_bytes() for event in known) + _retry(retry)

    async def until_end(
        self, waiter: Waiter, received: ReceivedProgress, is_allowed: IsAllowed
    ) -> AsyncIterator[bytes]:
        """Yield the events until the job has ended, the process stops, or `is_allowed` returns False."""
        yield _retry(RETRY_SECONDS)
        now, read_at, is_end = asyncio.get_running_loop().time, 0.0, False
        while not is_end and await is_allowed():
            is_end, is_due = waiter.has_ended, waiter.has_ended or now() >= read_at
            reported = [job_events.reported(report) for report in received.take()]
            new = self._unsent([*reported, *(await self._stored() if is_due else ())])
            for event in new:
                yield event.to_bytes()
                is_end = is_end or event.is_end
            if is_due:
                read_at = now() + self.heartbeat_seconds
                if not new:
                    yield KEEPALIVE_COMMENT
            if not is_end:
                await waiter.has_changed(within=self.key_check_seconds)

    async def _stored(self) -> list[JobEvent]:
        try:
            with deadlines.within(_READ_SECONDS):
                return [await self._state(await jobs.read(self._resources, self._owner, self._job_id))]
        except Unavailable:
            return []

    async def _state(self, job: Job) -> JobEvent:
        if job.outcome:
            return await job_events.ended(self._resources, job.outcome, root_path=self._root_path)
        return job_events.queued(job.job_id, await self._queue_depth.ahead())

    def _unsent(self, found: Iterable[JobEvent]) -> list[JobEvent]:
        unsent = []
        for event in found:
            if event.follows(self._last_id):
                self._last_id = event.id
                unsent.append(event)
        return unsent


def _retry(seconds: int) -> bytes:
    return format_sse_event(retry=seconds * 1000)
