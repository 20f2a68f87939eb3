"""The local equivalent of Lambda's event source mappings: invokes functions with queued messages.

Messages that the function did not report as failed are deleted; the others are retried with back-off.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import environments  # noqa: F401  (makes the packages importable)
import structlog
from embedded.running_store import use_running_store_unless_configured
from supervision.lifecycle import report_ready, run_until_stopped

from functions.background import dead_letters, notify, webhooks
from pipeline.clients.queues import BATCH, Message, Queue
from pipeline.clients.resources import Resources, connect
from pipeline.clients.webhook_client import webhook_client
from pipeline.errors import Unavailable
from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging
from pipeline.telemetry.tracing import configure_tracing

log = structlog.get_logger()

Event = dict[str, Any]
Handler = Callable[[Resources, Event], Awaitable[Event]]

DELETE_AFTER_SECONDS = 1.0
STOP_SECONDS = 1.5
BATCHES_AT_ONCE = 16
LONGEST_RETRY_DELAY_SECONDS = 60
LONGEST_BACKOFF_SECONDS = 5.0


class DeleteBuffer:
    """Buffers handled messages, so that one request deletes ten of them."""

    def __init__(self, queue: Queue, delay_seconds: float) -> None:
        self._queue = queue
        self._delay = delay_seconds
        self._receipts: list[str] = []
        self._flushing: set[asyncio.Task[None]] = set()

    def add(self, receipts: Sequence[str]) -> None:
        """Delete these after the delay, or immediately when a batch is full."""
        was_empty = not self._receipts
        self._receipts.extend(receipts)
        if len(self._receipts) >= BATCH:
            self._start(self.flush())
        elif was_empty and receipts:
            self._start(self._flush_later())

    async def flush(self) -> None:
        """Delete everything in the buffer."""
        receipts, self._receipts = self._receipts, []
        try:
            await self._queue.delete(receipts)
        except Unavailable as error:
            # They are delivered again; handling is idempotent.
            log.warning("could not delete handled messages", reason=error.message, messages=len(receipts))

    async def _flush_later(self) -> None:
        await asyncio.sleep(self._delay)
        await self.flush()

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)


class EventSourceMapping:
    """One queue mapped to one function."""

    def __init__(self, resources: Resources, queue: Queue, handle: Handler, *, delays_retries: bool = True) -> None:
        self._resources = resources
        self._delays_retries = delays_retries
        self._queue = queue
        self._handle = handle
        settings = resources.settings
        self._wait_seconds = settings.receive_wait_seconds
        self._deletes = DeleteBuffer(queue, min(DELETE_AFTER_SECONDS, settings.visibility_timeout_seconds / 4))
        self._slots = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._handling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Receive messages and handle them concurrently until cancelled."""
        try:
            while True:
                await self._slots.acquire()
                task = asyncio.create_task(self._process(await self._receive()))
                self._handling.add(task)
                task.add_done_callback(self._finished)
        finally:
            if self._handling:
                await asyncio.wait(self._handling, timeout=STOP_SECONDS)
            await self._deletes.flush()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._handling.discard(task)
        self._slots.release()

    async def _receive(self) -> Sequence[Message]:
        backoff = 0.0
        while True:
            try:
                messages = await self._queue.receive(BATCH, wait_seconds=self._wait_seconds)
            except Unavailable as error:
                if not backoff:
                    log.warning("the queue is unavailable; retrying", reason=error.message)
                backoff = min(LONGEST_BACKOFF_SECONDS, backoff * 2 or 0.1)
                await asyncio.sleep(backoff)
            else:
                if backoff:
                    log.info("the queue is available again")
                if messages:
                    return messages
                backoff = 0.0

    async def _process(self, messages: Sequence[Message]) -> None:
        failed = await self._invoke(messages)
        self._deletes.add([message.receipt for message in messages if message.id not in failed])
        for message in messages:
            if message.id in failed and self._delays_retries:
                await self._retry_later(message)

    async def _invoke(self, messages: Sequence[Message]) -> set[str]:
        """Invoke the function; return the ids of the messages that failed."""
        try:
            answer = await self._handle(self._resources, lambda_event(messages))
        except Exception:
            # As in Lambda: when the function raises, the whole batch is retried.
            log.exception("a function failed", messages=len(messages))
            return {message.id for message in messages}
        return {failure["itemIdentifier"] for failure in (answer or {}).get("batchItemFailures", [])}

    async def _retry_later(self, message: Message) -> None:
        seconds = min(LONGEST_RETRY_DELAY_SECONDS, 2 ** min(message.receive_count - 1, 10))
        log.warning("a message failed; retrying", message_id=message.id, seconds=seconds)
        with contextlib.suppress(Unavailable):
            await self._queue.hide([message.receipt], seconds)


def lambda_event(messages: Sequence[Message]) -> Event:
    """Return the event that Lambda creates from a batch of SQS messages."""
    return {
        "Records": [
            {
                "messageId": message.id,
                "receiptHandle": message.receipt,
                "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receive_count)},
                "eventSource": "aws:sqs",
            }
            for message in messages
        ]
    }


async def main() -> None:
    """Serve all queues until cancelled."""
    settings = load_settings()
    configure_logging(settings, "pump")
    configure_tracing(settings, "pump")
    async with connect(settings) as resources:
        await _wait_until_reachable(resources.events, resources.synthesis_dead_letters, resources.webhooks)
        report_ready()
        opening = webhook_client(allows_loopback=settings.allows_loopback_webhooks)
        async with opening as client, asyncio.TaskGroup() as group:
            on_outcome = partial(notify.handle, lookups=notify.Lookups.of(resources))
            group.create_task(EventSourceMapping(resources, resources.events, on_outcome).run())
            group.create_task(
                EventSourceMapping(resources, resources.synthesis_dead_letters, dead_letters.handle).run()
            )
            send = partial(webhooks.handle, client=client)  # it decides itself when a message is retried
            group.create_task(EventSourceMapping(resources, resources.webhooks, send, delays_retries=False).run())


async def _wait_until_reachable(*queues: Queue) -> None:
    while True:
        try:
            await asyncio.gather(*(queue.ping() for queue in queues))
        except Unavailable as error:
            log.warning("waiting for the queues", reason=error.message)
            await asyncio.sleep(1)
        else:
            return


if __name__ == "__main__":
    use_running_store_unless_configured()
    run_until_stopped(main())
