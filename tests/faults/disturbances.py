"""Faults of processes, the disk and the clock, at random times."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from tests.e2e.stack import Stack, is_alive
from tests.faults.faulty_proxy import FaultyProxy
from tests.support.small_disk import SmallDisk

PRELOADED = Path(__file__).parent / "preloaded"

FAULTY_SHARE = 0.04
STORM_SHARE = 0.3
# A claim of an idempotency key lasts this much longer after the largest jump back.
CLOCK_OFFSETS = (0.0, 90.0)

Between = tuple[float, float]


@dataclass(slots=True)
class Disturbances:
    """Injects faults while its context is open, and removes all of them at its end.

    Parameters
    ----------
    stacks
        The supervisors whose processes are killed and stopped.
    proxy
        The connection of the services to the storage.
    disk
        The disk of the storage, if this machine has a small one.
    clock
        The clock of all processes.
    longest_stop_seconds
        The longest `SIGSTOP`.
    """

    stacks: Sequence[Stack]
    proxy: FaultyProxy
    disk: SmallDisk | None
    clock: "ShiftedClock"
    random: Random
    longest_stop_seconds: float
    accepted_jobs: Callable[[], int]
    """Returns the number of jobs that were accepted so far."""
    counts: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def active(self) -> AsyncIterator[None]:
        """Inject faults until the context ends."""
        self.proxy.share = FAULTY_SHARE
        loops: list[tuple[Callable[[], Awaitable[None]], Between]] = [
            (self._kill, (4, 8)),
            (self._stop, (4, 10)),
            (self._disconnect, (10, 20)),
            (self._storm, (8, 20)),
            (self._shift_clock, (8, 20)),
        ]
        if self.disk:
            loops.append((self._fill_disk, (15, 30)))
        tasks = [asyncio.create_task(self._repeat(action, pause)) for action, pause in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.proxy.share, self.proxy.is_down = 0, False
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _repeat(self, action: Callable[[], Awaitable[None]], pause: Between) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(*pause))
            await action()

    def _processes(self) -> list[psutil.Process]:
        """Return the processes of both supervisors, without the supervisors themselves."""
        found = [process for stack in self.stacks for process in stack.children()]
        return [process for process in found if is_alive(process)]

    async def _kill(self) -> None:
        """Kill a process. A slow machine gets the time to accept a job first."""
        before = self.accepted_jobs()
        while self.accepted_jobs() == before:  # noqa: ASYNC110 - this happens in other processes
            await asyncio.sleep(0.2)
        with suppress(psutil.NoSuchProcess, IndexError):
            self.random.choice(self._processes()).kill()
            self.counts["processes killed"] += 1

    async def _stop(self) -> None:
        with suppress(psutil.NoSuchProcess, IndexError):
            process = self.random.choice(self._processes())
            process.suspend()
            self.counts["processes stopped"] += 1
            try:
                await asyncio.sleep(self.random.uniform(1, self.longest_stop_seconds))
            finally:
                with suppress(psutil.NoSuchProcess):  # it was killed meanwhile
                    process.resume()

    async def _disconnect(self) -> None:
        self.counts["outages of the storage"] += 1
        self.proxy.is_down = True
        try:
            await asyncio.sleep(self.random.uniform(1, 6))
        finally:
            self.proxy.is_down = False

    async def _storm(self) -> None:
        self.counts["storms of faulty requests"] += 1
        self.proxy.share = STORM_SHARE
        await asyncio.sleep(self.random.uniform(3, 8))
        self.proxy.share = FAULTY_SHARE

    async def _fill_disk(self) -> None:
        assert self.disk is not None
        self.counts["full disks"] += 1
        self.disk.fill()
        try:
            await asyncio.sleep(self.random.uniform(2, 6))
        finally:
            self.disk.free()

    async def _shift_clock(self) -> None:
        self.counts["jumps of the clock"] += 1
        self.clock.set(self.random.uniform(*CLOCK_OFFSETS))


class ShiftedClock:
    """The wall clock of Python processes with this environment. Their monotonic clock is not changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {"PYTHONPATH": str(PRELOADED), "SHIFTED_CLOCK": str(file)}
        self.set(0)

    def set(self, seconds: float) -> None:
        """Set the offset from the real time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:.1f}")
        new.replace(self._file)
