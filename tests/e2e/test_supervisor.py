"""The supervisor as a process, with stubs for the services: start, stop, restart and log."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from supervision.ports import free_port

from tests.e2e.stack import ROOT, STOP_SECONDS, is_alive, read_log, wait_until
from tests.support.moto_server import run_moto

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("supervisor")]

HOST = "127.0.0.1"

# The supervisor of `make run` with a stub in place of the services.
DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {localstack!r}]
import supervisor
from supervision.processes import Program, responds

def stubs(settings, _folder):
    ready = responds(supervisor.local_url(settings) + "/health")
    return [Program("api", [str(Path(__file__).with_name("api.py"))], ready)]

if __name__ == "__main__":
    sys.exit(supervisor.main(stubs))
"""

# Its child process inherits the port, as in an API with several workers.
API = """
import http.server, os, signal, subprocess, sys, time

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ.get("BROKEN"):
    sys.exit("it is broken")
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health)
os.set_inheritable(server.fileno(), True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """The environment of a moto server, so that the supervisor does not start the embedded AWS."""
    with run_moto() as address:
        yield {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class Run:
    """One run of the supervisor."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        (folder / "api.py").write_text(API)
        driver = folder / "driver.py"
        driver.write_text(DRIVER.format(root=str(ROOT), localstack=str(ROOT / "localstack")))
        self.port = free_port(HOST)
        self.log = folder / f"{self.port}.log"
        self.environment = {
            **os.environ,
            "PORT": str(self.port),
            "DATA_DIR": str(folder / "data"),
            "LOG_FORMAT": "text",
            **environment,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(driver)],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def until_listening(self) -> list[psutil.Process]:
        """Wait for the log line, and return the child processes."""
        self.until_logged("Listening on")
        return psutil.Process(self.process.pid).children(recursive=True)

    def until_logged(self, text: str) -> None:
        wait_until(lambda: text in self.logged() or self.process.poll() is not None, f"{text!r} in the log", 60)
        assert text in self.logged(), self.logged()

    def logged(self) -> str:
        return read_log(self.log)

    def ended(self, within_seconds: float = 60) -> int:
        return self.process.wait(within_seconds)


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """The runs of a test.  They are killed at its end."""
    started: list[Run] = []
    yield started
    for run in started:
        if run.process.poll() is None:
            for process in psutil.Process(run.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            run.process.kill()
            run.process.wait()


def _start(runs: list[Run], folder: Path, environment: Mapping[str, str], **more: str) -> Run:
    runs.append(Run(folder, {**environment, **more}))
    return runs[-1]


def _all_ended(children: list[psutil.Process], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(map(is_alive, children)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(is_alive, children))


def _port_is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server((HOST, port)):
        return True
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_all_processes(
    runs: list[Run], tmp_path: Path, aws: Mapping[str, str], how: signal.Signals
) -> None:
    run = _start(runs, tmp_path, aws)
    children = run.until_listening()
    run.process.send_signal(how)
    assert run.ended(STOP_SECONDS) == 0
    assert _all_ended(children, 0)
    assert _port_is_free(run.port)
    assert "api stopped" in run.logged()


def test_stubborn_child_is_killed(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    run = _start(runs, tmp_path, aws, STUBBORN="1")
    children = run.until_listening()
    run.process.send_signal(signal.SIGINT)
    assert run.ended(STOP_SECONDS) == 0
    assert _all_ended(children, 0)
    assert "api did not stop in time" in run.logged()


@pytest.mark.parametrize("stubborn", ["", "1"])
def test_killed_supervisor_leaves_no_children(
    runs: list[Run], tmp_path: Path, aws: Mapping[str, str], stubborn: str
) -> None:
    run = _start(runs, tmp_path, aws, STUBBORN=stubborn)
    children = run.until_listening()
    assert len(children) == 2
    run.process.kill()
    run.process.wait()
    # The child of the stub only ends if its process group is killed.
    ours = children if stubborn else children[:1]
    assert _all_ended(ours, STOP_SECONDS)
    for process in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_killed_child_is_restarted(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    run = _start(runs, tmp_path, aws)
    api, helper = run.until_listening()
    api.kill()
    run.until_logged("api ended; restarting it")
    wait_until(lambda: run.logged().count("api is ready") == 2, "ready again")
    assert _all_ended([helper], 1), "its child process still holds the port"


def test_failing_child_ends_supervisor(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    run = _start(runs, tmp_path, aws, BROKEN="1")
    assert run.ended() == 1
    assert "Can't start: api does not start (exit code 1)" in run.logged()
    assert "it is broken" in run.logged()


def test_second_run_on_same_data_refused(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    first = _start(runs, tmp_path, aws)
    first.until_listening()
    second = _start(runs, tmp_path, aws)
    assert second.ended() == 1
    assert "another run uses DATA_DIR" in second.logged()
    assert first.process.poll() is None


def test_port_in_use_refused(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        run = _start(runs, tmp_path, aws, PORT=str(port))
        assert run.ended() == 1
    assert f"PORT {port} of 127.0.0.1 is taken" in run.logged()
    assert "is ready" not in run.logged()


def test_port_zero_picks_free_port(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    run = _start(runs, tmp_path, aws, PORT="0")
    run.until_listening()
    address = run.logged().split("Listening on ")[1].split()[0]
    with socket.create_connection((HOST, int(address.rsplit(":", 1)[1])), timeout=5):
        pass


def test_invalid_settings_are_named(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    run = _start(runs, tmp_path, aws, PORT="eighty", UVICORN_WORKERS="0")
    assert run.ended() == 2
    assert "PORT: " in run.logged()
    assert "UVICORN_WORKERS: " in run.logged()
    assert not (tmp_path / "data").exists()


def test_unreachable_aws_is_named(runs: list[Run], tmp_path: Path, aws: Mapping[str, str]) -> None:
    run = _start(runs, tmp_path, aws, AWS_ENDPOINT_URL=f"http://{HOST}:{free_port(HOST)}")
    assert run.ended() == 1
    assert "Can't start: Can't provision S3 at" in run.logged()
    assert "Traceback" not in run.logged()
