"""Processes of the service, and the faults that occur at their calls.

A process that crashes stays suspended at its next call. So nothing of it runs on, not even its clean-up.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

import detangle

from pipeline.clients import deadlines
from pipeline.errors import Unavailable
from tests.support.fakes.clock import EPOCH
from tests.support.fakes.switch import Switch

Kind = Literal["unavailable", "crash", "slow"]

KINDS: tuple[tuple[Kind, ...], ...] = (("unavailable", "crash", "slow"), ("unavailable",), ("crash",), ("slow",))
SHARE_EVERYWHERE = 0.04
SHARES = (0.1, 0.3)  # at one place
AT_MOST = 4
USUAL_SECONDS = (0.0, 0.0, 0.0, 0.3)
SLOW_SECONDS = (3.0, 30.0)


class SimulatedTime:
    """The clock of the event loop, with an offset: a `pipeline.ids.Clock`."""

    def __init__(self, skew_seconds: float = 0) -> None:
        self._start = EPOCH + timedelta(seconds=skew_seconds)
        self._last = 0.0, self._start

    def __call__(self) -> datetime:
        seconds = asyncio.get_running_loop().time()
        if seconds != self._last[0]:
            self._last = seconds, self._start + timedelta(seconds=seconds)
        return self._last[1]

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Faults:
    """The faults of one schedule: how many are left, of which kinds, at which calls, and how often.

    `place` is a part of "process service call", or empty for all calls. Then most occur in the first seconds.
    """

    left: int = 0
    kinds: tuple[Kind, ...] = KINDS[0]
    place: str = ""
    share: float = SHARE_EVERYWHERE
    unreachable_share: float = 0.3
    """Of the messages to clients that fail."""
    is_over: bool = False
    """Whether the schedule has ended: its processes stop at their next calls."""

    @classmethod
    def chosen(cls, places: Sequence[str], unreachable_share: float) -> Self:
        """Choose the faults of a schedule, at one of these places."""
        place = detangle.choice(places)
        share = detangle.choice(SHARES) if place else SHARE_EVERYWHERE
        return cls(detangle.randint(0, AT_MOST), detangle.choice(KINDS), place, share, unreachable_share)

    def at(self, process: str, call: str) -> Kind | None:
        """Return the fault of a call, if it has one."""
        if self.left <= 0:
            return None
        call = f"{process} {call}"
        if not self._may_occur(call) or not detangle.flip(self.share):
            return None
        self.left -= 1
        fault = detangle.choice(self.kinds)
        detangle.note(f"fault in {call}: {fault}")
        return fault

    def occurs(self, share: float) -> bool:
        """Return whether a fault occurs that is independent of the place, such as a duplicate."""
        if self.left <= 0 or not detangle.flip(share):
            return False
        self.left -= 1
        return True

    def _may_occur(self, call: str) -> bool:
        is_poll = call.endswith((" receive", " list", " ping"))
        return self.place in call and not (self.place and is_poll)


class Process:
    """A process of the service. Every call of a service passes through it."""

    def __init__(self, faults: Faults, name: str) -> None:
        self.name = name
        self._crash = asyncio.get_running_loop().create_future()
        self.time = SimulatedTime(detangle.choice((0.0, 1.5, -1.5)))
        self._faults = faults

    async def before(self, call: str) -> None:
        """Begin a call: it may fail, take long, or never be made because the process crashes.

        Raises
        ------
        Unavailable
            The call failed, or the deadline of the request has passed.
        """
        if self._is_suspended:
            await self.alive()
        fault = self._faults.at(self.name, call)
        if fault == "crash":
            self.crash()
        elif fault == "unavailable":
            raise Unavailable(f"simulated ({call})")
        seconds = detangle.choice(SLOW_SECONDS if fault == "slow" else USUAL_SECONDS)
        left = deadlines.seconds_left()
        await asyncio.sleep(max(0.0, min(seconds, left)))
        if seconds > left:
            raise Unavailable(f"simulated timeout ({call})")
        if self._is_suspended:
            await self.alive()

    async def after(self, call: str) -> None:
        """End a call that had an effect: the response may be lost, or the process may crash before it arrives."""
        fault = self._faults.at(self.name, call)
        if fault == "crash":
            self.crash()
        elif fault == "unavailable":
            raise Unavailable(f"simulated loss of a response ({call})")
        if self._is_suspended:
            await self.alive()

    def crash(self) -> None:
        """Stop the process, as `kill -9` does."""
        detangle.note(f"{self.name} crashes")
        if not self._crash.done():
            self._crash.set_result(None)

    async def alive(self) -> None:
        """Return if the process runs."""
        if self._faults.is_over:
            raise asyncio.CancelledError
        if self.has_crashed:
            await asyncio.get_running_loop().create_future()

    @property
    def _is_suspended(self) -> bool:
        return self._crash.done() or self._faults.is_over

    @property
    def has_crashed(self) -> bool:
        """Whether it has stopped."""
        return self._crash.done()

    async def until_crash_or(self, *others: asyncio.Future[Any]) -> None:
        """Wait until the process crashes, or one of the others is done. Nothing is cancelled."""
        await asyncio.wait((self._crash, *others), return_when=asyncio.FIRST_COMPLETED)


class ProcessSwitch(Switch):
    """Passes the calls of a fake through its process."""

    def __init__(self, process: Process, service: str) -> None:
        super().__init__()
        self._process = process
        self._service = service

    def passed(self, call: str) -> Coroutine[Any, Any, None]:
        return self._process.before(f"{self._service} {call}")
