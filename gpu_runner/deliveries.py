"""The messages in this worker's hands: kept hidden from others while it works, then deleted or handed back."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from gpu_runner.links import Link
from pipeline.clients.queues import BATCH, Message, Queue
from pipeline.errors import Unavailable

Sleep = Callable[[float], Awaitable[object]]

TIDY_SECONDS = 1.0  # how long a finished message may wait for others to be deleted with

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Delivery:
    """A job in this worker's hands, with the newest receipt of each message that asked for it."""

    job_id: str
    receive_count: int
    receipts: dict[str, str]
    """By message id."""
    ended: bool = False


@dataclass(slots=True)
class _Outbox:
    """Messages that are no longer ours to hold."""

    garbage: list[str] = field(default_factory=list)
    handed_back: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Receipts by the seconds they stay hidden."""


class Deliveries:
    """All messages in hand.

    `keep_alive` and `keep_tidy` are to run beside the work; `flush` ends both.
    """

    def __init__(self, queue: Queue, link: Link, *, visibility_seconds: int, sleep: Sleep = asyncio.sleep) -> None:
        self._queue = queue
        self._link = link
        self._visibility = visibility_seconds
        self._sleep = sleep
        self._held: dict[str, Delivery] = {}
        self._outbox = _Outbox()
        self._something = asyncio.Event()
        self._plenty = asyncio.Event()
        # A sign of life that overtakes a message's return would hide it again.
        self._one_at_a_time = asyncio.Lock()

    @property
    def are_settled(self) -> bool:
        """Whether no message is in hand, nor on its way back."""
        return not (self._held or self._outbox.garbage or self._outbox.handed_back)

    def take(self, job_id: str, message: Message) -> Delivery | None:
        """Hold a message; None when its job is in hand already, as after a sign of life that came too late."""
        if job_id in self._held:
            self._held[job_id].receipts[message.id] = message.receipt
            return None
        self._held[job_id] = Delivery(job_id, message.receive_count, {message.id: message.receipt})
        return self._held[job_id]

    def discard(self, message: Message) -> None:
        """Delete a message that is no job."""
        self._outbox.garbage.append(message.receipt)
        self._stir()

    def end(self, delivery: Delivery) -> None:
        """Delete the messages of a job that has ended."""
        delivery.ended = True
        self._stir()

    def hand_back(self, delivery: Delivery, *, after_seconds: float = 0) -> None:
        """Leave a job to whoever receives it next, after so many seconds."""
        del self._held[delivery.job_id]
        self._outbox.handed_back[round(after_seconds)] += delivery.receipts.values()
        self._stir()

    async def keep_alive(self) -> None:
        """Extend the time of all that is held, three times in every visibility timeout."""
        interval = self._visibility / 3
        pause = interval
        while True:
            await self._sleep(pause)
            pause = interval if await self._tried(self._extend) else min(1.0, interval)

    async def keep_tidy(self) -> None:
        """Hand back at once, delete a batch at a time or what has come together in a second."""
        while True:
            await self._something.wait()
            await self._plenty_or_a_while()
            if not await self._tried(self._settle):
                await self._sleep(self._link.next_pause())

    async def flush(self) -> None:
        """Delete what ended and hand everything else back, for the last time."""
        for delivery in tuple(self._held.values()):
            if not delivery.ended:
                self.hand_back(delivery)
        await self._tried(self._settle)

    async def _tried(self, what: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with self._one_at_a_time:
                await what()
        except Unavailable as error:
            self._link.failed(error)
            return False
        return True

    async def _extend(self) -> None:
        receipts = [receipt for held in self._held.values() for receipt in held.receipts.values()]
        if receipts:
            await self._queue.hide(receipts, self._visibility)

    async def _settle(self) -> None:
        self._something.clear()
        self._plenty.clear()
        try:
            await self._return_all()
            await self._delete_all()
        finally:
            self._stir()

    async def _return_all(self) -> None:
        for seconds in tuple(self._outbox.handed_back):
            # Taken out first: what is handed back meanwhile waits for the next turn.
            receipts = self._outbox.handed_back.pop(seconds)
            try:
                await self._queue.hide(receipts, seconds)
            except BaseException:
                self._outbox.handed_back[seconds] += receipts
                raise

    async def _delete_all(self) -> None:
        ended = {held.job_id: dict(held.receipts) for held in self._held.values() if held.ended}
        garbage = tuple(self._outbox.garbage)
        receipts = [*garbage, *(receipt for some in ended.values() for receipt in some.values())]
        if not receipts:
            return
        await self._queue.delete(receipts)
        del self._outbox.garbage[: len(garbage)]
        for job_id, deleted in ended.items():
            self._forget(job_id, deleted)

    def _forget(self, job_id: str, deleted: dict[str, str]) -> None:
        """Let go of a job, unless one more of its messages came meanwhile."""
        held = self._held[job_id]
        held.receipts = {id_: receipt for id_, receipt in held.receipts.items() if deleted.get(id_) != receipt}
        if not held.receipts:
            del self._held[job_id]

    async def _plenty_or_a_while(self) -> None:
        waits = [asyncio.ensure_future(self._plenty.wait()), asyncio.ensure_future(self._sleep(TIDY_SECONDS))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _stir(self) -> None:
        """Wake the tidying up when there is something to do, in a hurry when others could go on with it."""
        count = len(self._outbox.garbage) + sum(len(held.receipts) for held in self._held.values() if held.ended)
        if count or self._outbox.handed_back:
            self._something.set()
        if count >= BATCH or self._outbox.handed_back:
            self._plenty.set()
