"""The worker's loop: receive what there is room for, work on it side by side, settle the messages."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import structlog

from gpu_runner import synthesis
from gpu_runner.deliveries import Deliveries, Delivery, Sleep
from gpu_runner.engine_thread import EngineFailed, Stopping
from gpu_runner.engines import EngineLost
from gpu_runner.links import Links, back_off_seconds
from gpu_runner.protection import OPEN_SECONDS, Protection
from gpu_runner.synthesis import Bench
from pipeline.clients.queues import BATCH, Message
from pipeline.domain import jobs
from pipeline.errors import Unavailable

T = TypeVar("T")

POLL_GRACE_SECONDS = 2.0  # a poll that is dropped may take a message with it until its visibility ends
PUBLISH_TRIES = 5

log = structlog.get_logger(__name__)


class Consumer:
    """Works through the synthesis queue until `stop`.

    At most `WORKER_BATCH_SIZE` jobs are fetched for or spoken at a time, and as many again published.
    """

    def __init__(self, bench: Bench, links: Links, protection: Protection, *, sleep: Sleep = asyncio.sleep) -> None:
        settings = bench.resources.settings
        self._bench = bench
        self._settings = settings
        self._queue = bench.resources.synthesis
        self._links = links
        self._protection = protection
        self._sleep = sleep
        self._deliveries = Deliveries(
            self._queue, links.queue, visibility_seconds=settings.visibility_timeout_seconds, sleep=sleep
        )
        self._stopping = asyncio.Event()
        self._room_made = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()
        self._speaking: set[str] = set()
        self._lost: EngineLost | None = None

    @property
    def in_flight(self) -> int:
        """How many jobs are being worked on."""
        return len(self._working)

    def stop(self) -> None:
        """Take nothing more on; `run` returns when what was begun has ended."""
        self._stopping.set()
        self._bench.engine.close()

    async def run(self) -> None:
        """Work until `stop`, then finish what the engine has begun and hand back the rest.

        Raises
        ------
        EngineLost
            The engine is gone; every message was handed back.
        """
        keeping = [
            asyncio.create_task(self._deliveries.keep_alive()),
            asyncio.create_task(self._deliveries.keep_tidy()),
            asyncio.create_task(self._protection.keep()),
        ]
        try:
            await self._receive_until_stopped()
            await self._drain()
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            await self._deliveries.flush()
        if self._lost:
            raise self._lost

    async def _receive_until_stopped(self) -> None:
        while not self._stopping.is_set():
            if not self._room:
                self._room_made.clear()
                await self._unless_stopped(self._room_made.wait())
            elif not self._links.storage.is_up:
                await self._release_when_idle()
                await self._try_storage()
            elif await self._unless_stopped(self._protection.take()):
                await self._receive()
            else:
                await self._stand_open()

    @property
    def _room(self) -> int:
        batch = self._settings.worker_batch_size
        return max(0, min(batch - len(self._speaking), 2 * batch - len(self._working)))

    async def _try_storage(self) -> None:
        """Receive nothing while the storage is away: every delivery in vain brings a job nearer to its failure."""
        await self._unless_stopped(self._sleep(self._links.storage.next_pause()))
        if self._stopping.is_set():
            return
        try:
            await self._bench.resources.bucket.ping()
        except Unavailable as error:
            self._links.storage.failed(error)
        else:
            self._links.storage.answered()

    async def _receive(self) -> None:
        if self._stopping.is_set():
            return
        poll = self._queue.receive(min(BATCH, self._room), wait_seconds=self._settings.receive_wait_seconds)
        try:
            messages = await self._unless_stopped(poll, grace_seconds=POLL_GRACE_SECONDS)
        except Unavailable as error:
            self._links.queue.failed(error)
            await self._release_when_idle()
            await self._unless_stopped(self._sleep(self._links.queue.next_pause()))
            return
        if messages is not None:
            self._links.queue.answered()
        for message in messages or ():
            self._begin(message)
        if self._is_idle and self._protection.is_held:
            await self._stand_open()

    @property
    def _is_idle(self) -> bool:
        return not self._working and self._deliveries.are_settled

    async def _release_when_idle(self) -> None:
        if self._is_idle:
            await self._unless_stopped(self._protection.release())

    async def _stand_open(self) -> None:
        """Receive nothing for a moment, in which an idle worker may be stopped."""
        await self._release_when_idle()
        await self._unless_stopped(self._sleep(OPEN_SECONDS))

    def _begin(self, message: Message) -> None:
        ticket = jobs.parse_ticket(message.body)
        if ticket is None:
            log.warning("message is no job, deleting it", message_id=message.id)
            self._deliveries.discard(message)
            return
        delivery = self._deliveries.take(ticket.job_id, message)
        if delivery is None:
            return
        self._speaking.add(delivery.job_id)
        task = asyncio.create_task(self._work(delivery))
        self._working.add(task)
        task.add_done_callback(self._put_away)

    def _put_away(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._room_made.set()

    async def _work(self, delivery: Delivery) -> None:
        structlog.contextvars.bind_contextvars(job_id=delivery.job_id)
        try:
            await self._perform(delivery)
        except Stopping:
            self._deliveries.hand_back(delivery)
        except Exception as error:
            seconds = back_off_seconds(delivery.receive_count)
            self._note(error, delivery, seconds)
            self._deliveries.hand_back(delivery, after_seconds=seconds)
        else:
            self._deliveries.end(delivery)

    async def _perform(self, delivery: Delivery) -> None:
        try:
            redelivered = delivery.receive_count > 1
            ended = await synthesis.perform(self._bench, delivery.job_id, redelivered=redelivered)
        finally:
            self._speaking.discard(delivery.job_id)
            self._room_made.set()
        self._links.storage.answered()
        if ended is not None:
            await self._publish(ended)

    async def _publish(self, ended: synthesis.Ended) -> None:
        """Try for a while: what was spoken is too dear to be lost to a short outage."""
        for failures in range(1, PUBLISH_TRIES):
            try:
                await synthesis.publish(self._bench, ended)
            except Unavailable as error:
                self._links.storage.failed(error)
                await self._sleep(back_off_seconds(failures))
            else:
                return
        await synthesis.publish(self._bench, ended)

    def _note(self, error: Exception, delivery: Delivery, seconds: float) -> None:
        """Log why a job goes back; an outage and the end of a batch are logged where they happen."""
        facts = {"receive_count": delivery.receive_count, "again_after_seconds": seconds}
        match error:
            case Unavailable():
                self._links.storage.failed(error)
                log.debug("job handed back", **facts)
            case EngineFailed():
                log.warning("job handed back", reason=str(error), **facts)
            case EngineLost():
                log.warning("job handed back", reason=str(error), **facts)
                self._lost = error
                self.stop()
            case _:
                log.error("job failed, to be tried again", exc_info=error, **facts)

    async def _drain(self) -> None:
        """Let what was begun come to its end, within bounds."""
        if not self._working:
            return
        log.info("finishing", jobs=len(self._working))
        ended = asyncio.ensure_future(asyncio.wait(self._working))
        if not await _first(ended, self._sleep(self._settings.worker_drain_seconds)):
            log.warning("not finished in time, handing back", jobs=len(self._working))
        for task in tuple(self._working):
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    async def _unless_stopped(self, what: Awaitable[T], *, grace_seconds: float = 0) -> T | None:
        """Wait for something; None when the worker stops first."""
        task = asyncio.ensure_future(what)
        try:
            await _first(task, self._stopping.wait())
            if not task.done() and grace_seconds:
                await _first(task, self._sleep(grace_seconds))
            return task.result() if task.done() else None
        finally:
            task.cancel()


async def _first(awaited: "asyncio.Future[T]", limit: Awaitable[object]) -> bool:
    """Wait for one or the other; whether the first is done."""
    other = asyncio.ensure_future(limit)
    both: list[asyncio.Future[Any]] = [awaited, other]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        other.cancel()
    return awaited.done()
