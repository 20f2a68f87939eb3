"""Child processes that are kept running, and that end with whoever started them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from place import HERE, ROOT

from pipeline.errors import Unavailable
from pipeline.ids import utc_now

log = structlog.get_logger()

Ready = Callable[[], Awaitable[bool]]

LOOK_SECONDS = 0.05
PROBE_SECONDS = 2.0
STEADY_SECONDS = 20  # who ran so long did start
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
ATTEMPTS_TO_START = 3


class GaveUp(Exception):
    """A program ended again and again before it was ready even once."""


async def _nothing(_lost_since: datetime | None) -> None:
    return


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and what there is to know about it.

    Parameters
    ----------
    name
        What the log calls it.
    command
        A script, or `-m` and a module, and arguments.
    is_ready
        Tells whether it does its work.
    python
        What runs it.
    environment
        What it gets on top of our own environment.
    prepare
        What to do each time it has become ready, before it counts as such; it is told since when the program was
        away, and may raise `Unavailable` to have it started again.
    """

    name: str
    command: Sequence[str]
    is_ready: Ready
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[datetime | None], Awaitable[None]] = _nothing


class Child:
    """One program, kept running."""

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self.ready = asyncio.Event()
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._started_once = False
        self._lost_since: datetime | None = None

    async def keep_running(self) -> None:
        """Start it, and again whenever it ends, until cancelled; then it still runs, for `stop` to end.

        Raises
        ------
        GaveUp
            It never was ready.
        """
        now = asyncio.get_running_loop().time
        failures = 0
        while True:
            started = now()
            how = await self._run_once()
            failures = 1 if now() - started >= STEADY_SECONDS else failures + 1
            if failures >= ATTEMPTS_TO_START and not self._started_once:
                raise GaveUp(f"{self.name} does not start ({how}); see above for why.")
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
            log.warning(f"{self.name} died; starting it again", how=how, in_seconds=pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        """Run it to its end; how it ended."""
        process = self._process = await _start(self._program)
        preparing = asyncio.create_task(self._prepare(process.pid))
        ending = asyncio.create_task(process.wait())
        try:
            await asyncio.wait([preparing, ending], return_when=asyncio.FIRST_COMPLETED)
            if preparing.done():
                preparing.result()
            code = await ending
        except Unavailable as error:
            return f"it can't be used: {error.message}"
        else:
            return f"signal {-code}" if code < 0 else f"exit code {code}"
        finally:
            preparing.cancel()
            if not _is_cancelled():
                self._note_loss()
                await _end_group(process)

    async def _prepare(self, pid: int) -> None:
        while not await self._program.is_ready():  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(LOOK_SECONDS)
        await self._program.prepare(self._lost_since)
        self._started_once = True
        self.ready.set()
        log.info(f"{self.name} is ready", pid=pid)

    def _note_loss(self) -> None:
        if self.ready.is_set():
            self.ready.clear()
            self._lost_since = utc_now()

    async def stop(self, grace_seconds: float) -> None:
        """Ask it to stop; end it when it has not within the grace."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), grace_seconds)
        except TimeoutError:
            log.warning(f"{self.name} did not stop in time; ended it", seconds=grace_seconds)
        else:
            log.info(f"{self.name} stopped")
        await _end_group(process)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _start(program: Program) -> asyncio.subprocess.Process:
    """Start a program under a tether, in a group of its own so that Ctrl-C reaches only us."""
    environment = {**os.environ, **program.environment, "PYTHONPATH": _python_path()}
    # Compiled files make every start after the first one several times faster.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return await asyncio.create_subprocess_exec(
        program.python,
        str(HERE / "tethered.py"),
        *program.command,
        stdin=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        **_in_a_group_of_its_own(),
    )


def _in_a_group_of_its_own() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End the process and whatever it started, which may hold its port."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def answers(url: str) -> Ready:
    """Make the check that a GET is answered 200."""

    async def check() -> bool:
        timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    return check


def leaves(path: Path) -> Ready:
    """Make the check that the program has left a file, and take it away: its next life leaves one anew."""

    def take() -> bool:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    async def check() -> bool:
        return await asyncio.to_thread(take)

    return check
