"""Turns of owners: a few requests at a time do expensive work, one of each owner in turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.clients import deadlines
from pipeline.errors import Unavailable
from pipeline.ids import Owner


class FairTurns:
    """Admits a limited number of tasks; owners with waiting tasks are served round-robin.

    Parameters
    ----------
    slots
        How many tasks are admitted at a time.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        # By owner, the one whose turn is next first.
        self._waiting: dict[Owner, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, owner: Owner) -> AsyncIterator[None]:
        """Wait for a turn of this owner, and hold it for the length of the context.

        Raises
        ------
        Unavailable
            The deadline of the request has passed.
        """
        if self._free:
            self._free -= 1
        else:
            try:
                async with deadlines.timeout():
                    await self._wait(owner)
            except TimeoutError:
                raise Unavailable("The requests before this one were not accepted in time.") from None
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, owner: Owner) -> None:
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(admitted)
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # it was admitted at the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Admit the next task, or free the slot if none waits."""
        while self._waiting:
            owner = next(iter(self._waiting))
            tasks = self._waiting.pop(owner)
            admitted = tasks.popleft()
            if tasks:
                self._waiting[owner] = tasks
            if not admitted.cancelled():
                admitted.set_result(None)
                return
        self._free += 1
