"""The messages this worker holds: hidden from others while they are processed, then deleted or returned."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, field

import structlog

from gpu_runner.dependency_health import DependencyHealth, Sleep
from pipeline.clients.queues import BATCH, Message, Queue
from pipeline.errors import Unavailable

SETTLE_SECONDS = 1.0  # how long a completed message may wait to be deleted in one call with others

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Delivery:
    """A job this worker holds, with the newest receipt of each message that asked for it."""

    job_id: str
    receive_count: int
    receipts: dict[str, str]
    """By message id."""
    completed: bool = False


@dataclass(slots=True)
class _Pending:
    """Receipts that wait for the next call to the queue."""

    discarded: list[str] = field(default_factory=list)
    returned: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By the seconds they stay hidden."""


class Deliveries:
    """All messages this worker holds.

    `extend_forever` and `settle_forever` run as background tasks. `flush` settles everything at the end.
    """

    def __init__(
        self, queue: Queue, health: DependencyHealth, *, visibility_seconds: int, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._queue = queue
        self._health = health
        self._visibility = visibility_seconds
        self._sleep = sleep
        self._held: dict[str, Delivery] = {}
        self._is_holding = asyncio.Event()
        self._pending = _Pending()
        self._has_pending = asyncio.Event()
        self._is_urgent = asyncio.Event()
        # An extension that overtakes a message's return would hide it again.
        self._calling = asyncio.Lock()

    @property
    def are_settled(self) -> bool:
        """Whether no message is held or waits to be deleted or returned."""
        return not (self._held or self._pending.discarded or self._pending.returned)

    def hold(self, job_id: str, message: Message) -> Delivery | None:
        """Hold a message. None if its job is held already, as after a late extension."""
        if job_id in self._held:
            self._held[job_id].receipts[message.id] = message.receipt
            return None
        self._held[job_id] = Delivery(job_id, message.receive_count, {message.id: message.receipt})
        self._is_holding.set()
        return self._held[job_id]

    def discard(self, message: Message) -> None:
        """Delete a message that contains no job."""
        self._pending.discarded.append(message.receipt)
        self._notify()

    def complete(self, delivery: Delivery) -> None:
        """Delete the messages of a job that has ended."""
        delivery.completed = True
        self._notify()

    def return_to_queue(self, delivery: Delivery, *, after_seconds: float = 0) -> None:
        """Return a job to the queue, visible to all workers after `after_seconds`."""
        del self._held[delivery.job_id]
        self._pending.returned[round(after_seconds)] += delivery.receipts.values()
        self._notify()

    async def extend_forever(self) -> None:
        """Extend the visibility timeout of everything held, three times in each timeout."""
        interval = self._visibility / 3
        pause = interval
        while True:
            if not self._held:  # an idle worker does nothing
                self._is_holding.clear()
                await self._is_holding.wait()
            await self._sleep(pause)
            pause = interval if await self._succeeds(self._extend) else min(1.0, interval)

    async def settle_forever(self) -> None:
        """Return messages immediately. Delete a full batch, or those completed within `SETTLE_SECONDS`."""
        while True:
            await self._has_pending.wait()
            await self._urgent_or_timeout()
            if not await self._succeeds(self._settle):
                await self._sleep(self._health.next_backoff())

    async def flush(self) -> None:
        """Delete the completed messages and return all others, for the last time."""
        for delivery in tuple(self._held.values()):
            if not delivery.completed:
                self.return_to_queue(delivery)
        await self._succeeds(self._settle)

    async def _succeeds(self, call: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with self._calling:
                await call()
        except Unavailable as error:
            self._health.failed(error)
            return False
        return True

    async def _extend(self) -> None:
        receipts = [receipt for held in self._held.values() for receipt in held.receipts.values()]
        if receipts:
            _check_none_failed(await self._queue.hide(receipts, self._visibility))

    async def _settle(self) -> None:
        self._has_pending.clear()
        self._is_urgent.clear()
        try:
            await self._return_all()
            await self._delete_all()
        finally:
            self._notify()

    async def _return_all(self) -> None:
        for seconds in tuple(self._pending.returned):
            # Removed first: messages that are returned meanwhile wait for the next call.
            receipts = self._pending.returned.pop(seconds)
            try:
                receipts = list(await self._queue.hide(receipts, seconds))
            finally:
                if receipts:
                    self._pending.returned[seconds] += receipts
            _check_none_failed(receipts)

    async def _delete_all(self) -> None:
        completed = (held.receipts.values() for held in self._held.values() if held.completed)
        receipts = [*self._pending.discarded, *itertools.chain.from_iterable(completed)]
        if not receipts:
            return
        failed = await self._queue.delete(receipts)
        self._forget(set(receipts) - set(failed))
        _check_none_failed(failed)

    def _forget(self, deleted: Set[str]) -> None:
        """Forget deleted messages. A job is held while another message of it is."""
        self._pending.discarded = [receipt for receipt in self._pending.discarded if receipt not in deleted]
        for held in tuple(self._held.values()):
            held.receipts = {id_: receipt for id_, receipt in held.receipts.items() if receipt not in deleted}
            if not held.receipts:
                del self._held[held.job_id]

    async def _urgent_or_timeout(self) -> None:
        waits = [asyncio.ensure_future(self._is_urgent.wait()), asyncio.ensure_future(self._sleep(SETTLE_SECONDS))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _notify(self) -> None:
        """Wake `settle_forever` when something is pending, at once for a return or a full batch."""
        completed = sum(len(held.receipts) for held in self._held.values() if held.completed)
        count = len(self._pending.discarded) + completed
        if count or self._pending.returned:
            self._has_pending.set()
        if count >= BATCH or self._pending.returned:
            self._is_urgent.set()


def _check_none_failed(receipts: Sequence[str]) -> None:
    """Raise `Unavailable` for entries of a batch that are to be retried."""
    if receipts:
        raise Unavailable(f"The queue could not process {len(receipts)} messages of a batch.")
