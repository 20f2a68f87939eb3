"""The processes of `make run`, for tests that use them and kill them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import psutil
from supervision.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
STOP_SECONDS = 10  # then Docker kills the processes of a container


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll until the condition holds.

    Raises
    ------
    AssertionError
        The condition did not hold in time.
    """
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.05)


def read_log(file: Path) -> str:
    """Return the complete lines of a log; the last line may be half-written. Empty if there is no log."""
    written = file.read_bytes() if file.exists() else b""
    return written[: written.rfind(b"\n") + 1].decode()


class Stack:
    """`python localstack/supervisor.py` with these arguments, and its child processes."""

    notifier = "pump"

    def __init__(self, data: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self.data = data
        self._arguments = arguments
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket_url = f"ws://127.0.0.1:{self.port}/ws"
        self.key: str | None = None
        self.log = data.with_suffix(".log")
        self.names = self._own_names()
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "TTS_BACKEND": "mock",
            "QUALITY": "off",  # its child process would take a second of CPU time from each stack
            "LOG_FORMAT": "json",
            "RECEIVE_WAIT_SECONDS": "5",
            "VISIBILITY_TIMEOUT_SECONDS": "5",
            "PORT": str(self.port),
            "DATA_DIR": str(data),
            **self.names,
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def _own_names(self) -> dict[str, str]:
        """Return unique names of buckets and queues, so that several stacks can share one AWS endpoint."""
        queues = ("SYNTHESIS", "EVENTS", "WEBHOOKS")
        kinds = [f"{queue}{kind}" for queue in queues for kind in ("_QUEUE", "_DEAD_LETTER_QUEUE")]
        named = {kind: f"{kind.lower().replace('_', '-')}-{self.port}" for kind in kinds}
        return {"BUCKET": f"voices-{self.port}", **named}

    @property
    def process(self) -> psutil.Process:
        """The supervisor."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def start(self, until: str = "Ctrl-C stops everything") -> None:
        """Start, and wait for a line of the log; the default ends the startup message."""
        before = self.logged().count(until)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "localstack" / "supervisor.py"), *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self._ended() or self.logged().count(until) > before, until, START_SECONDS)
        assert not self._ended(), self.logged()[-4000:]

    def make_key(self, owner: str, *scopes: str) -> str:
        """Create an API key, as `make keys` does."""
        return self.run_keys("make", "--owner", owner, *(part for scope in scopes for part in ("--scope", scope)))

    def run_keys(self, *arguments: str) -> str:
        """Run `make keys` with these arguments; return its output."""
        command = [sys.executable, str(ROOT / "localstack" / "keys.py"), *arguments]
        made = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def interrupt(self) -> None:
        """Press Ctrl-C and wait for the end of all processes."""
        family = self.children()
        self.process.send_signal(signal.SIGINT)
        assert self._process is not None
        assert self._process.wait(STOP_SECONDS) == 0
        assert not [process for process in family if is_alive(process)]

    def kill_supervisor(self) -> None:
        """`kill -9` of the supervisor alone.  Its children have to end by themselves."""
        family = self.children()
        self.process.kill()
        assert self._process is not None
        self._process.wait()
        # Zombies count as ended, because init may reap them late.
        wait_until(lambda: not any(map(is_alive, family)), "all children ended", STOP_SECONDS)

    def kill_everything(self) -> None:
        """`kill -9` of all processes at once."""
        for process in [self.process, *self.children()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert self._process is not None
        self._process.wait()

    def children(self) -> list[psutil.Process]:
        """Return all descendants of the supervisor."""
        return self.process.children(recursive=True)

    def kill(self, name: str) -> psutil.Process:
        """`kill -9` of one child, found by a part of its command line."""
        found = [process for process in self.process.children() if name in " ".join(_command(process))]
        assert len(found) == 1, (name, [_command(process) for process in self.process.children()])
        found[0].kill()
        return found[0]

    def logged(self) -> str:
        """Return the log of all processes."""
        return read_log(self.log)

    def healthy(self) -> bool:
        """Return whether the health check succeeds."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        return False

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def stop_all(self) -> None:
        """Kill all processes that are still running."""
        if self._process is not None and not self._ended():
            self.kill_everything()


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


@contextlib.contextmanager
def running(data: Path, environment: Mapping[str, str]) -> Iterator[Stack]:
    """Run a stack until the context ends."""
    stack = Stack(data, environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop_all()
