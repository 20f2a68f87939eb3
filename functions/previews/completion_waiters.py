"""HTTP requests that wait for their jobs: notified if the process can be reached, polling otherwise."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from cachetools import LRUCache

from functions.previews.received_audio import ReceivedAudio
from functions.previews.received_progress import ReceivedProgress
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.completions import Completion, parse_completion
from pipeline.contract.messages.stream_messages import parse_stream_message
from pipeline.contract.records import ReplyTo, Subscriber
from pipeline.errors import Unavailable

# With notifications, polling covers lost ones only; without them, it is the only way.
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS, _GROWTH = 0.1, 1.0, 1.5
_FALLBACK_POLL_SECONDS = 5.0
_UNSUBSCRIBE_SECONDS = 5.0
_ANSWERED = 4096  # how many requests are remembered after their response


@dataclass(slots=True)
class Waiter:
    """One request that waits for one job."""

    job_id: str
    subscriber: Subscriber | None
    """The subscriber to create the job with; None if this process can't be notified."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: bool = False
    completion: Completion | None = None
    """Set when the worker has sent it."""
    received: ReceivedAudio | ReceivedProgress | None = None
    """Receives the messages of the worker while the audio is generated."""

    @property
    def is_ready(self) -> bool:
        """Whether there is data for a response."""
        return self.has_ended or bool(self.received and self.received.has_news)

    def end(self) -> None:
        """End the wait."""
        self.has_ended = True
        self.changed.set()

    async def has_changed(self, *, within: float) -> bool:
        """Wait for the next change for this many seconds; return whether there was one."""
        self.changed.clear()
        return self.is_ready or await _is_set(self.changed, within=within)


class CompletionWaiters:
    """The waiting requests of this process, by the connection id for their notifications.

    `endpoint` is where this process receives `@connections` posts; None if it can't, as in a Lambda function.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.endpoint: str | None = None
        self._waiting: dict[str, Waiter] = {}
        self._answered: LRUCache[str, bool] = LRUCache(_ANSWERED)
        self._is_stopping = False

    @contextmanager
    def waiter(self, job_id: str, received: ReceivedAudio | ReceivedProgress | None = None) -> Iterator[Waiter]:
        """Register a waiter for a job before it is created, or its subscriber stored.

        `received` receives the messages that the worker sends until the job has ended.
        """
        connection_id = secrets.token_urlsafe(16)
        waiter = Waiter(job_id, self._subscriber(connection_id, received), received=received)
        if self._is_stopping:
            waiter.end()
        self._waiting[connection_id] = waiter
        try:
            yield waiter
        finally:
            del self._waiting[connection_id]
            if waiter.completion:
                self._answered[connection_id] = True

    def is_waiting(self, connection_id: str) -> bool:
        """Return whether a request waits with this id."""
        return connection_id in self._waiting

    def is_awaited(self, job_id: str) -> bool:
        """Return whether a request waits for this job."""
        return any(waiter.job_id == job_id for waiter in self._waiting.values())

    def deliver(self, connection_id: str, body: bytes) -> bool:
        """Deliver a message to a request that waits or has just ended; return False if there is none."""
        waiter = self._waiting.get(connection_id)
        if waiter is None:
            return connection_id in self._answered
        if waiter.received and (message := parse_stream_message(body)):
            waiter.received.add(message)
            waiter.changed.set()
            return True
        waiter.completion = parse_completion(body) or waiter.completion
        waiter.end()
        return True

    def stop(self) -> None:
        """End all current and future waits, as the process stops."""
        self._is_stopping = True
        for waiter in self._waiting.values():
            waiter.end()

    async def wait(self, waiter: Waiter, seconds: float) -> bool:
        """Wait until a job has ended, or generated audio; return False on timeout, or if the process stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._until_ready(waiter)
        except TimeoutError:
            return False
        return not self._is_stopping

    def _subscriber(
        self, connection_id: str, received: ReceivedAudio | ReceivedProgress | None
    ) -> Subscriber | None:
        if self.endpoint is None:
            return None
        reply_to = ReplyTo(endpoint=self.endpoint, connection_id=connection_id, takes_batches=True)
        return Subscriber(
            reply_to=reply_to,
            interface="http",
            stream=isinstance(received, ReceivedAudio),
            progress=isinstance(received, ReceivedProgress),
        )

    async def _until_ready(self, waiter: Waiter) -> None:
        pause = _FALLBACK_POLL_SECONDS if waiter.subscriber else _FIRST_POLL_SECONDS
        while not waiter.is_ready:
            if not await waiter.has_changed(within=pause):
                waiter.has_ended = await self._has_ended(waiter.job_id)
            pause = max(pause, min(pause * _GROWTH, _LONGEST_POLL_SECONDS))

    async def _has_ended(self, job_id: str) -> bool:
        try:
            return await self._resources.bucket.head(layout.outcome(job_id)) is not None
        except Unavailable:
            return False


@asynccontextmanager
async def subscribed(resources: Resources, job_id: str, subscriber: Subscriber) -> AsyncIterator[None]:
    """Store a later subscriber of a job, until the block ends."""
    key = layout.subscriber(job_id, subscriber.reply_to.connection_id)
    await resources.bucket.put(key, subscriber.to_json(), JSON)
    try:
        yield
    finally:
        with suppress(Unavailable), deadlines.within(_UNSUBSCRIBE_SECONDS):
            await resources.bucket.delete([key])


async def _is_set(event: asyncio.Event, *, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return False
