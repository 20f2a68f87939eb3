"""How an HTTP request waits for its job: rung by the event path where it can be, looking itself where it can't."""

import asyncio
import json
from typing import Any

from functions.previews.queue_depth import Backlog
from pipeline.clients.resources import Resources
from pipeline.contract import events
from pipeline.contract.records import ReplyTo
from pipeline.domain import jobs
from pipeline.errors import Unavailable

# With a bell, looking is only for the event that got lost; without one, it is all there is.
_RUNG = (5.0, 5.0)
_UNRUNG = (0.1, 1.0)
_GROWTH = 1.5


class Waiters:
    """The HTTP requests of this process that wait for a job.

    `endpoint` is where this process takes `@connections` posts; None where it can't, as in a Lambda function.
    `backlog` tells those who go on without waiting how many are before them.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.endpoint: str | None = None
        self.backlog = Backlog(resources)
        self._bells: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def reply_to(self, job_id: str) -> ReplyTo | None:
        """Where the event path shall ring when the job ends."""
        return ReplyTo(endpoint=self.endpoint, connection_id=f"http-{job_id}") if self.endpoint else None

    def ring(self, connection_id: str, text: str) -> bool:
        """Hand a message to the request that waits under this id; False when none does."""
        bell = self._bells.get(connection_id)
        if bell is None:
            return False
        if not bell.done():
            bell.set_result(json.loads(text))
        return True

    def expect(self, job_id: str) -> "Expectation":
        """Begin to listen for a job, before it is sent."""
        connection_id = f"http-{job_id}"
        bell: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._bells[connection_id] = bell
        return Expectation(self, job_id, connection_id, bell)

    def forget(self, connection_id: str) -> None:
        """Stop listening."""
        self._bells.pop(connection_id, None)

    async def look(self, job_id: str, bell: "asyncio.Future[dict[str, Any]]") -> dict[str, Any]:
        """Wait for the bell, looking now and then; what the client is told of how the job ended."""
        pause, longest = _RUNG if self.endpoint else _UNRUNG
        while True:
            done, _ = await asyncio.wait([bell], timeout=pause)
            if done:
                return bell.result()
            pause = min(pause * _GROWTH, longest)
            if message := await self._outcome(job_id):
                return message

    async def _outcome(self, job_id: str) -> dict[str, Any] | None:
        try:
            outcome = await jobs.read_outcome(self._resources, job_id)
        except Unavailable:
            return None
        return events.message_for(outcome) if outcome else None


class Expectation:
    """One request's wait for one job; a context manager."""

    def __init__(
        self, waiters: Waiters, job_id: str, connection_id: str, bell: "asyncio.Future[dict[str, Any]]"
    ) -> None:
        self._waiters = waiters
        self._job_id = job_id
        self._connection_id = connection_id
        self._bell = bell

    def __enter__(self) -> "Expectation":
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters.forget(self._connection_id)

    async def wait(self, seconds: float) -> dict[str, Any] | None:
        """Give the message that tells how the job ended, or None when the time is over first."""
        try:
            async with asyncio.timeout(seconds):
                return await self._waiters.look(self._job_id, self._bell)
        except TimeoutError:
            return None
