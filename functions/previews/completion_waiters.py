"""HTTP requests that wait for their jobs: notified where the process can be reached, polling where it can't."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import ReplyTo, Subscriber
from pipeline.errors import Unavailable

# Where there are notifications, polling is for the one that got lost; where there are none, it is all there is.
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS, _GROWTH = 0.1, 1.0, 1.5
_FALLBACK_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Waiter:
    """One request that waits for one job.

    `subscriber` is what its job is made with; None where nobody could notify this process.
    """

    subscriber: Subscriber | None
    notified: asyncio.Event = field(default_factory=asyncio.Event)


class CompletionWaiters:
    """The waiting requests of this process, by the connection id under which they are notified.

    `endpoint` is where this process takes `@connections` posts; None where it can't, as in a Lambda function.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.endpoint: str | None = None
        self._waiting: dict[str, Waiter] = {}
        self._is_stopping = False

    @contextmanager
    def waiter(self) -> Iterator[Waiter]:
        """Listen for notifications of a job that is about to be made."""
        connection_id = secrets.token_urlsafe(16)
        waiter = Waiter(self._subscriber(connection_id))
        if self._is_stopping:
            waiter.notified.set()
        self._waiting[connection_id] = waiter
        try:
            yield waiter
        finally:
            del self._waiting[connection_id]

    def notify(self, connection_id: str) -> bool:
        """Wake the request that waits under this id; False when none does."""
        waiter = self._waiting.get(connection_id)
        if waiter is not None:
            waiter.notified.set()
        return waiter is not None

    def stop(self) -> None:
        """End all waits, also those to come: the process stops."""
        self._is_stopping = True
        for waiter in self._waiting.values():
            waiter.notified.set()

    async def wait(self, waiter: Waiter, job_id: str, seconds: float) -> bool:
        """Wait until a job has ended; False when the time is over first, or the process stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._until_ended(waiter, job_id)
        except TimeoutError:
            return False
        return not self._is_stopping

    def _subscriber(self, connection_id: str) -> Subscriber | None:
        if self.endpoint is None:
            return None
        reply_to = ReplyTo(endpoint=self.endpoint, connection_id=connection_id)
        return Subscriber(reply_to=reply_to, interface="http")

    async def _until_ended(self, waiter: Waiter, job_id: str) -> None:
        pause = _FALLBACK_POLL_SECONDS if waiter.subscriber else _FIRST_POLL_SECONDS
        while not await _is_set(waiter.notified, within=pause) and not await self._has_ended(job_id):
            pause = max(pause, min(pause * _GROWTH, _LONGEST_POLL_SECONDS))

    async def _has_ended(self, job_id: str) -> bool:
        try:
            return await self._resources.bucket.head(layout.outcome(job_id)) is not None
        except Unavailable:
            return False


async def _is_set(event: asyncio.Event, *, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return False
