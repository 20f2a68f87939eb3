"""Child processes that are restarted when they end, and that end with their parent."""

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
from environments import ROOT

from pipeline.errors import Unavailable
from pipeline.ids import utc_now

log = structlog.get_logger()

ReadinessCheck = Callable[[], Awaitable[bool]]

POLL_SECONDS = 0.05
CHECK_TIMEOUT_SECONDS = 2.0
STABLE_SECONDS = 20  # after running this long, the back-off is reset
FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 15.0
ATTEMPTS_TO_START = 3


class StartFailed(Exception):
    """A program ended repeatedly before it was ready for the first time."""


async def _no_preparation(_down_since: datetime | None) -> None:
    return


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run as a child process.

    Parameters
    ----------
    name
        Its name in the log.
    command
        A script, or `-m` and a module, and arguments.
    is_ready
        Returns whether the program is ready.
    python
        The interpreter.
    environment
        Variables that are added to the current environment.
    folder
        The working directory.
    is_required
        Whether everything ends if it repeatedly ends before it was ready. Otherwise it is restarted.
    prepare
        Called each time the program has become ready, before it is reported as such, with the time since which it
        was down (None at the first start); may raise `Unavailable` to have it restarted.
    """

    name: str
    command: Sequence[str]
    is_ready: ReadinessCheck
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    is_required: bool = True
    prepare: Callable[[datetime | None], Awaitable[None]] = _no_preparation


class ChildProcess:
    """A program that is restarted whenever it ends."""

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self.ready = asyncio.Event()
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._started_once = False
        self._down_since: datetime | None = None

    async def keep_running(self) -> None:
        """Start it, and restart it whenever it ends, until cancelled; `stop` then ends the process.

        Raises
        ------
        StartFailed
            It was never ready.
        """
        now = asyncio.get_running_loop().time
        failures = 0
        while True:
            started = now()
            reason = await self._run_once()
            is_stable = self._started_once and now() - started >= STABLE_SECONDS
            failures = 1 if is_stable else failures + 1
            if self._program.is_required and failures >= ATTEMPTS_TO_START and not self._started_once:
                raise StartFailed(f"{self.name} does not start ({reason}); see above for why.")
            backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 10))
            log.warning(f"{self.name} ended; restarting it", reason=reason, in_seconds=backoff)
            await asyncio.sleep(backoff)

    async def _run_once(self) -> str:
        """Run it once; return how it ended."""
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
                self._record_outage()
                await _kill_group(process)

    async def _prepare(self, pid: int) -> None:
        while not await self._program.is_ready():  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(POLL_SECONDS)
        await self._program.prepare(self._down_since)
        self._started_once = True
        self.ready.set()
        log.info(f"{self.name} is ready", pid=pid)

    def _record_outage(self) -> None:
        if self.ready.is_set():
            self.ready.clear()
            self._down_since = utc_now()

    async def restart(self) -> None:
        """Kill the process, for `keep_running` to start it again."""
        if self._process is not None and self._process.returncode is None:
            await _kill_group(self._process)

    async def stop(self, grace_seconds: float) -> None:
        """Request a graceful stop; kill the process if it does not end within the grace period."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), grace_seconds)
        except TimeoutError:
            log.warning(f"{self.name} did not stop in time; killed it", seconds=grace_seconds)
        else:
            log.info(f"{self.name} stopped")
        await _kill_group(process)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _start(program: Program) -> asyncio.subprocess.Process:
    """Start a program that exits with this process, in a separate process group, so that it gets no Ctrl-C."""
    environment = {**os.environ, **program.environment, "PYTHONPATH": _python_path()}
    # Bytecode caches make every start after the first one several times faster.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return await asyncio.create_subprocess_exec(
        program.python,
        str(Path(__file__).with_name("exit_with_parent.py")),
        *program.command,
        stdin=subprocess.PIPE,
        cwd=program.folder,
        env=environment,
        **_new_process_group(),
    )


def _new_process_group() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill the process and its children, which may hold its port."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def responds(url: str, *statuses: int) -> ReadinessCheck:
    """Return a check that a GET of this URL gets one of these statuses; none: 200."""

    async def check() -> bool:
        timeout = aiohttp.ClientTimeout(total=CHECK_TIMEOUT_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
                return response.status in (statuses or (200,))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    return check


def creates(path: Path) -> ReadinessCheck:
    """Return a check that the program has created a file; it removes the file, for the next start to create."""

    def remove() -> bool:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    async def check() -> bool:
        return await asyncio.to_thread(remove)

    return check
