"""The worker's loop: receives as many jobs as fit, processes them concurrently, settles their messages."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import structlog

from gpu_runner.dependency_health import Dependencies, Sleep, backoff_seconds
from gpu_runner.engines import EngineLost
from gpu_runner.queue.deliveries import Deliveries, Delivery
from gpu_runner.queue.protection import SCALE_IN_WINDOW_SECONDS, Protection
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.engine_loop import EngineFailed
from gpu_runner.synthesis.engine_thread import Stopping
from gpu_runner.synthesis.processing import process
from gpu_runner.synthesis.publishing import Result, publish
from pipeline.clients.queues import BATCH, Message
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.errors import Unavailable

T = TypeVar("T")

POLL_GRACE_SECONDS = 2.0  # a cancelled poll may have taken messages, which then stay hidden for a while
PUBLISH_TRIES = 5

log = structlog.get_logger(__name__)


class Consumer:
    """Consumes the synthesis queue until `stop`.

    At most `WORKER_BATCH_SIZE` jobs are prepared or synthesized at a time, while as many again are published.
    """

    def __init__(
        self,
        context: WorkerContext,
        dependencies: Dependencies,
        protection: Protection,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        settings = context.resources.settings
        self._context = context
        self._settings = settings
        self._queue = context.resources.synthesis
        self._dependencies = dependencies
        self._protection = protection
        self._sleep = sleep
        self._deliveries = Deliveries(
            self._queue, dependencies.queue, visibility_seconds=settings.visibility_timeout_seconds, sleep=sleep
        )
        self._stopping = asyncio.Event()
        self._capacity_freed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._synthesizing: set[str] = set()
        self._lost: EngineLost | None = None
        self._backlog = False

    @property
    def in_flight(self) -> int:
        """The number of jobs being processed."""
        return len(self._tasks)

    def stop(self) -> None:
        """Stop receiving. `run` returns once the jobs in flight have ended."""
        self._stopping.set()
        self._context.engine.close()

    async def run(self) -> None:
        """Process jobs until `stop`, then finish what the engine has started and return the rest to the queue.

        Raises
        ------
        EngineLost
            The engine was lost. Every message was returned.
        """
        revocations = self._context.revocations
        background = [
            asyncio.create_task(self._deliveries.extend_forever()),
            asyncio.create_task(self._deliveries.settle_forever()),
            asyncio.create_task(self._protection.renew_forever()),
            asyncio.create_task(self._stop_when_engine_lost()),
            asyncio.create_task(revocations.poll_forever(self._sleep, self._context.drop_revoked)),
            asyncio.create_task(self._context.watches.poll_forever(self._sleep)),
        ]
        try:
            await self._receive_until_stopped()
            await self._drain()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._deliveries.flush()
        if self._lost:
            raise self._lost

    async def _stop_when_engine_lost(self) -> None:
        self._lost = await self._context.engine.lost()
        self.stop()

    async def _receive_until_stopped(self) -> None:
        while not self._stopping.is_set():
            if not self._free_capacity:
                self._capacity_freed.clear()
                await self._unless_stopped(self._capacity_freed.wait())
            elif not self._dependencies.storage.is_up:
                await self._release_protection_if_idle()
                await self._probe_storage()
            elif await self._unless_stopped(self._protection.acquire()):
                await self._receive()
            else:
                await self._allow_scale_in()

    @property
    def _free_capacity(self) -> int:
        batch = self._settings.worker_batch_size
        return max(0, min(batch - len(self._synthesizing), 2 * batch - len(self._tasks)))

    async def _probe_storage(self) -> None:
        """Wait for the storage before receiving: a delivery that must fail uses up one of its job's attempts."""
        await self._unless_stopped(self._sleep(self._dependencies.storage.next_backoff()))
        if self._stopping.is_set():
            return
        try:
            await self._context.resources.bucket.ping()
        except Unavailable as error:
            self._dependencies.storage.failed(error)
        else:
            self._dependencies.storage.succeeded()

    async def _receive(self) -> None:
        if self._stopping.is_set():
            return
        try:
            messages = await self._unless_stopped(self._poll(), grace_seconds=POLL_GRACE_SECONDS)
        except Unavailable as error:
            self._dependencies.queue.failed(error)
            await self._release_protection_if_idle()
            await self._unless_stopped(self._sleep(self._dependencies.queue.next_backoff()))
            return
        if messages is not None:
            self._dependencies.queue.succeeded()
        for message in messages or ():
            self._start(message)
        if self._is_idle and self._protection.is_held:
            await self._allow_scale_in()

    async def _poll(self) -> Sequence[Message]:
        """Poll once and wait. After a full poll, poll as often as capacity allows, without waiting."""
        capacity = self._free_capacity
        limits = [min(BATCH, capacity - taken) for taken in range(0, capacity, BATCH)] if self._backlog else []
        if len(limits) < 2:
            limits, wait_seconds = [min(BATCH, capacity)], self._settings.receive_wait_seconds
        else:
            wait_seconds = 0
        polls = (self._queue.receive(limit, wait_seconds=wait_seconds) for limit in limits)
        results = await asyncio.gather(*polls, return_exceptions=True)
        messages = [message for result in results if not isinstance(result, BaseException) for message in result]
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors and not messages:
            raise errors[0]
        self._backlog = len(messages) == sum(limits)
        return messages

    @property
    def _is_idle(self) -> bool:
        return not self._tasks and self._deliveries.are_settled

    async def _release_protection_if_idle(self) -> None:
        if self._is_idle:
            await self._unless_stopped(self._protection.release())

    async def _allow_scale_in(self) -> None:
        """Receive nothing for a moment, during which an idle worker may be stopped."""
        await self._release_protection_if_idle()
        await self._unless_stopped(self._sleep(SCALE_IN_WINDOW_SECONDS))

    def _start(self, message: Message) -> None:
        job = parse_queue_message(message.body)
        if job is None:
            log.warning("message is not a job, deleting it", message_id=message.id)
            self._deliveries.discard(message)
            return
        delivery = self._deliveries.hold(job.job_id, message)
        if delivery is None:
            return
        self._synthesizing.add(delivery.job_id)
        task = asyncio.create_task(self._handle(delivery, job.request))
        self._tasks.add(task)
        task.add_done_callback(self._remove)

    def _remove(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._capacity_freed.set()

    async def _handle(self, delivery: Delivery, document: dict[str, Any] | None) -> None:
        structlog.contextvars.bind_contextvars(job_id=delivery.job_id)
        try:
            await self._process(delivery, document)
        except Stopping:
            self._deliveries.return_to_queue(delivery)
        except Exception as error:
            seconds = backoff_seconds(delivery.receive_count)
            self._log_failure(error, delivery, seconds)
            self._deliveries.return_to_queue(delivery, after_seconds=seconds)
        else:
            self._deliveries.complete(delivery)

    async def _process(self, delivery: Delivery, document: dict[str, Any] | None) -> None:
        try:
            redelivered = delivery.receive_count > 1
            job_id = delivery.job_id
            result = await process(self._context, job_id, redelivered=redelivered, document=document)
        finally:
            self._synthesizing.discard(delivery.job_id)
            self._capacity_freed.set()
        self._dependencies.storage.succeeded()
        if result is not None:
            await self._publish(result)

    async def _publish(self, result: Result) -> None:
        """Retry for a while: finished audio is too expensive to lose in a short outage."""
        for failures in range(1, PUBLISH_TRIES):
            try:
                await publish(self._context, result)
            except Unavailable as error:
                self._dependencies.storage.failed(error)
                await self._sleep(backoff_seconds(failures))
            else:
                return
        await publish(self._context, result)

    def _log_failure(self, error: Exception, delivery: Delivery, seconds: float) -> None:
        """Log the reason for returning a job. Outages and failed batches are logged elsewhere."""
        facts = {"receive_count": delivery.receive_count, "retry_after_seconds": seconds}
        match error:
            case Unavailable():
                self._dependencies.storage.failed(error)
                log.debug("job returned to the queue", **facts)
            case EngineFailed() | EngineLost():
                log.warning("job returned to the queue", reason=str(error), **facts)
            case _:
                log.error("job failed, will be retried", exc_info=error, **facts)

    async def _drain(self) -> None:
        """Wait up to `WORKER_DRAIN_SECONDS` for the jobs in flight, then cancel the rest."""
        if not self._tasks:
            return
        log.info("draining", jobs=len(self._tasks))
        ended = asyncio.ensure_future(asyncio.wait(self._tasks))
        if not await _first(ended, self._sleep(self._settings.worker_drain_seconds)):
            log.warning("drain timeout, returning jobs to the queue", jobs=len(self._tasks))
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _unless_stopped(self, awaitable: Awaitable[T], *, grace_seconds: float = 0) -> T | None:
        """Wait for an awaitable and return its result. None if the worker stops first."""
        task = asyncio.ensure_future(awaitable)
        try:
            await _first(task, self._stopping.wait())
            if not task.done() and grace_seconds:
                await _first(task, self._sleep(grace_seconds))
            return task.result() if task.done() else None
        finally:
            task.cancel()


async def _first(awaited: "asyncio.Future[T]", limit: Awaitable[object]) -> bool:
    """Wait for either. Return whether the first is done."""
    other = asyncio.ensure_future(limit)
    both: list[asyncio.Future[Any]] = [awaited, other]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        other.cancel()
    return awaited.done()
