"""The order in which tasks of several owners are admitted."""

import asyncio

import pytest

from functions.previews.fair_turns import FairTurns
from pipeline.clients import deadlines
from pipeline.errors import Unavailable
from tests.support.fakes.clock import settle


class Tasks:
    """Tasks that hold a turn until they are finished, and the order of their admission."""

    def __init__(self, slots: int) -> None:
        self.turns = FairTurns(slots)
        self.admitted: list[str] = []
        self._finish: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *names: str) -> None:
        """Start tasks; the first letter of a name is the owner."""
        for name in names:
            self._finish[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._run(name))
            await settle()

    async def _run(self, name: str) -> None:
        async with self.turns.turn(name[0]):
            self.admitted.append(name)
            await self._finish[name].wait()

    async def finish(self, *names: str) -> None:
        for name in names:
            self._finish[name].set()
            await settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await settle()


async def test_owners_are_admitted_in_turn() -> None:
    tasks = Tasks(slots=1)
    await tasks.start("a1", "a2", "a3", "b1", "c1", "b2")
    await tasks.finish("a1", "a2", "b1", "c1", "a3", "b2")
    assert tasks.admitted == ["a1", "a2", "b1", "c1", "a3", "b2"]


async def test_new_owner_waits_for_one_task_of_each() -> None:
    tasks = Tasks(slots=1)
    await tasks.start(*(f"a{number}" for number in range(9)), "b1")
    await tasks.finish("a0", "a1")
    assert tasks.admitted == ["a0", "a1", "b1"]


async def test_slots_limit_admitted_tasks() -> None:
    tasks = Tasks(slots=2)
    await tasks.start("a1", "a2", "a3")
    assert tasks.admitted == ["a1", "a2"]
    await tasks.finish("a1", "a2", "a3")
    await tasks.start("a4", "a5", "a6")
    assert tasks.admitted == ["a1", "a2", "a3", "a4", "a5"]


async def test_cancelled_task_gives_up_turn() -> None:
    tasks = Tasks(slots=1)
    await tasks.start("a1", "b1", "c1")
    await tasks.cancel("b1")
    await tasks.finish("a1")
    assert tasks.admitted == ["a1", "c1"]
    await tasks.cancel("c1")
    await tasks.start("d1")
    assert tasks.admitted == ["a1", "c1", "d1"]


async def test_task_cancelled_on_admission_passes_turn_on() -> None:
    tasks = Tasks(slots=1)
    await tasks.start("a1", "b1", "c1")
    tasks._finish["a1"].set()
    await asyncio.sleep(0)  # "a1" ends and admits "b1", which has not continued yet
    assert tasks.admitted == ["a1"]
    await tasks.cancel("b1")
    assert tasks.admitted == ["a1", "c1"]


async def test_wait_ends_at_deadline() -> None:
    tasks = Tasks(slots=1)
    await tasks.start("a1")
    with deadlines.within(0), pytest.raises(Unavailable):
        async with tasks.turns.turn("b"):
            pass
    await tasks.finish("a1")
    await tasks.start("c1")
    assert tasks.admitted == ["a1", "c1"]
