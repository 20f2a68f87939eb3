"""A clock for tests."""

import asyncio
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

_SETTLING_TURNS = 50


class FakeTime:
    """A `pipeline.ids.Clock` with a `sleep`.  Its time changes only by `advance`."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self.now = start
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test has advanced the time this far."""
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + timedelta(seconds=seconds), waking))
        await waking

    async def advance(self, seconds: float) -> None:
        """Advance the time.  Wake each sleeper at its own time and let it run."""
        end = self.now + timedelta(seconds=seconds)
        await settle()
        while due := [moment for moment, waking in self._sleepers if moment <= end and not waking.done()]:
            self.now = max(self.now, min(due))
            self._wake()
            await settle()
        self.now = end

    def _wake(self) -> None:
        for moment, waking in self._sleepers:
            if moment <= self.now and not waking.done():
                waking.set_result(None)
        self._sleepers = [(moment, waking) for moment, waking in self._sleepers if not waking.done()]


async def settle() -> None:
    """Let all tasks run that do not wait for time."""
    for _ in range(_SETTLING_TURNS):
        await asyncio.sleep(0)
