"""An in-memory queue that passes the contract tests of SQS."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.clients.queues import BATCH, Message, QueueCounts
from tests.support.fakes.clock import FakeTime
from tests.support.fakes.switch import Switch


@dataclass(slots=True)
class _Queued:
    id: str
    body: str
    visible_at: datetime
    receipt: str = ""
    receive_count: int = 0


class FakeQueue:
    """An in-memory `pipeline.clients.queues.Queue` with visibility timeout and dead letters."""

    def __init__(
        self,
        time: FakeTime,
        *,
        visibility_seconds: int = 60,
        max_receives: int | None = None,
        dead_letters: "FakeQueue | None" = None,
    ) -> None:
        self._time = time
        self._visibility = timedelta(seconds=visibility_seconds)
        self._max_receives = max_receives
        self._dead_letters = dead_letters
        self._messages: list[_Queued] = []
        self._numbers = iter(range(10**9))
        self._arrival = asyncio.Event()
        self.groups: list[str | None] = []  # of all messages sent
        self.failing: set[str] = set()  # bodies of messages that cannot be deleted or hidden
        self.switch = Switch()

    @property
    def bodies(self) -> list[str]:
        """The bodies of all messages, hidden or not."""
        return [message.body for message in self._messages]

    @property
    def visible(self) -> list[str]:
        """The bodies of the visible messages."""
        return [message.body for message in self._messages if message.visible_at <= self._time()]

    def clear(self) -> None:
        """Lose all messages, as an emulator that is killed."""
        self._messages.clear()

    async def send(self, body: str, *, group: str | None = None) -> None:
        await self.switch.passed("send")
        self.groups.append(group)
        self._messages.append(_Queued(f"m{next(self._numbers)}", body, self._time()))
        self._arrival.set()

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        await self.switch.passed("receive")
        end = self._time() + timedelta(seconds=wait_seconds)
        while not (taken := self._take(min(limit, BATCH))) and self._time() < end:
            await self._wait_for_visible(end)
        return taken

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        for _ in range(0, len(receipts), BATCH):
            await self.switch.passed("delete")
        named = [message for message in self._messages if message.receipt in receipts]
        for message in named:
            if message.body not in self.failing:
                self._messages.remove(message)
        return self._failed(named)

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        for _ in range(0, len(receipts), BATCH):
            await self.switch.passed("hide")
        named = [message for message in self._messages if message.receipt in receipts]
        for message in named:
            if message.body not in self.failing:
                message.visible_at = self._time() + timedelta(seconds=seconds)
        self._arrival.set()
        return self._failed(named)

    def _failed(self, messages: Iterable[_Queued]) -> list[str]:
        return [message.receipt for message in messages if message.body in self.failing]

    async def counts(self) -> QueueCounts:
        await self.switch.passed("counts")
        return QueueCounts(visible=len(self.visible), hidden=len(self._messages) - len(self.visible))

    async def depth(self) -> int:
        await self.switch.passed("depth")
        return len(self.visible)

    async def ping(self) -> None:
        await self.switch.passed("ping")

    def _take(self, limit: int) -> list[Message]:
        self._move_dead_letters()
        ready = [message for message in self._messages if message.visible_at <= self._time()][:limit]
        for message in ready:
            message.visible_at = self._time() + self._visibility
            message.receive_count += 1
            message.receipt = f"{message.id}-{next(self._numbers)}"
        return [Message(one.id, one.body, one.receipt, one.receive_count) for one in ready]

    def _move_dead_letters(self) -> None:
        """Move messages over the receive limit to the dead letters, as SQS does at the next receive."""
        if self._max_receives is None or self._dead_letters is None:
            return
        for message in tuple(self._messages):
            if message.visible_at <= self._time() and message.receive_count >= self._max_receives:
                self._messages.remove(message)
                self._dead_letters.put(message)

    def put(self, message: _Queued) -> None:
        """Add a message from another queue."""
        message.visible_at = self._time()
        self._messages.append(message)
        self._arrival.set()

    async def _wait_for_visible(self, end: datetime) -> None:
        """Wait until a message arrives or becomes visible, or until `end`."""
        next_visible = min([end, *(message.visible_at for message in self._messages)])
        self._arrival.clear()
        waits = [
            asyncio.ensure_future(self._arrival.wait()),
            asyncio.ensure_future(self._time.sleep((next_visible - self._time()).total_seconds())),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)  # a cancellation of the caller meanwhile is raised
