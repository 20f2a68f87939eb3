"""The commands, environments and health checks of localstack/compose.yaml, run as processes without containers.

Each service is a process.  The volume, each container's /tmp and the ports of their shared network become folders
and ports of this machine.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from supervision.ports import free_port

from tests.e2e.client import Client
from tests.e2e.stack import ROOT, read_log, wait_until
from tests.support.trace_collector import Collector

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("supervisor")]

HOST = "127.0.0.1"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "localstack" / "compose.yaml").read_text())["services"]
STARTED = ("store", "api", "pump", "schedule", "worker")
START_SECONDS = 120
GRACE_SECONDS = 10  # Docker's default


class Project:
    """The services as processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: free_port(HOST) for port in ("4566", "8000", "8080")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.collector = Collector()

    def up(self) -> None:
        """Start the services in the order of `depends_on`, each after its dependencies are healthy."""
        for name in STARTED:
            for before, condition in SERVICES[name].get("depends_on", {}).items():
                assert condition == {"condition": "service_healthy"}
                self.wait_until_healthy(before)
            self.start(name)
        for name in STARTED:
            self.wait_until_healthy(name)

    def start(self, name: str) -> None:
        """Start a service."""
        (self.folder / name).mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            command = self._here(SERVICES[name]["entrypoint"], name)
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(name), stdout=log, stderr=log, start_new_session=True
            )

    def exec(self, name: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as in the service's container."""
        here = self._here(command, name)
        return subprocess.run(
            here, cwd=ROOT, env=self.environment(name), capture_output=True, text=True, timeout=60
        )

    def wait_until_healthy(self, name: str) -> None:
        kind, *check = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"

        def healthy() -> bool:
            assert self.processes[name].poll() is None, self.logged(name)
            return self.exec(name, *check).returncode == 0

        wait_until(healthy, f"{name} healthy", START_SECONDS)

    def stop(self, name: str) -> int:
        """Stop a service as `docker compose stop` does; return its exit status."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(int(SERVICES[name].get("stop_grace_period", f"{GRACE_SECONDS}s").rstrip("s")))

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a container, without the AWS variables of this machine."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        # Containers do not set it, because 8000 is the default port of the API.
        port = {"PORT": self.ports["8000"]} if name == "api" else {}
        given = SERVICES[name].get("environment", {})
        return outside | {key: self._mapped(str(value), name) for key, value in (given | port).items()}

    def logged(self, name: str) -> str:
        return read_log(self.folder / f"{name}.log")[-3000:]

    def _here(self, command: "list[str] | tuple[str, ...]", name: str) -> list[str]:
        return [sys.executable if part == "python" else self._mapped(part, name) for part in command]

    def _mapped(self, text: str, name: str) -> str:
        text = text.replace("${TRACES_URL:-}", self.collector.url)
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
        text = re.sub(r"(?<![\w.])/data\b", str(self.folder / "data"), text)
        text = re.sub(r"(?<![\w.])/tmp\b(?=/ready)", str(self.folder / name), text)
        return re.sub(r"\b(4566|8000|8080)\b", lambda port: str(self.ports[port[1]]), text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("compose"))
    try:
        project.up()
        yield project
    finally:
        for process in project.processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        project.collector.close()


def client_of(project: Project, key: str | None = None) -> Client:
    port = project.ports["8000"]
    return Client(f"http://{HOST}:{port}", f"ws://{HOST}:{port}/ws", key)


def test_compose_requires_key_and_synthesizes(project: Project) -> None:
    assert client_of(project).get("/voices").status_code == 401
    made = project.exec("api", "python", "-m", "functions.keys", "make", "--owner", "me")
    assert made.returncode == 0, made.stderr
    client = client_of(project, made.stdout.strip())
    answer = client.preview(150, "Hello.", Prefer="wait=25")
    assert answer.status_code == 200, project.logged("worker")
    assert answer.content[:4] == b"RIFF"
    assert client.get("/health").json()["worker"] == "ready"


def test_socket_receives_completion(project: Project) -> None:
    key = project.exec("api", "python", "-m", "functions.keys", "make", "--owner", "me").stdout.strip()
    client = client_of(project, key)
    session_id = client.preview(150, "Hello.", Prefer="wait=25").headers["x-session-id"]
    with client.socket() as socket:
        message = socket.ask("generate_preview", session_id=session_id, text="Hello again.")
    assert message["type"] == "tts_complete", project.logged("pump")


def test_preview_is_one_trace(project: Project) -> None:
    key = project.exec("api", "python", "-m", "functions.keys", "make", "--owner", "me").stdout.strip()
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    traced = {"traceparent": f"00-{trace_id}-{span_id}-01"}
    assert client_of(project, key).preview(150, "Hello.", Prefer="wait=25", **traced).status_code == 200
    wanted = {
        ("api", "request"),
        ("api", "enqueue"),
        ("worker", "queue"),
        ("worker", "synthesis"),
        ("worker", "store"),
        ("pump", "notify"),
    }

    def found() -> set[tuple[str, str]]:
        return {(service, span.name) for service, span in project.collector.spans.get(trace_id, [])}

    wait_until(lambda: found() == wanted, "all spans", 20)
    spans = {span.name: span for _, span in project.collector.spans[trace_id]}
    assert spans["request"].parent_span_id.hex() == span_id
    assert {span.parent_span_id for name, span in spans.items() if name != "request"} == {spans["request"].span_id}


def test_data_survives_store_restart(project: Project) -> None:
    key = project.exec("api", "python", "-m", "functions.keys", "make", "--owner", "me").stdout.strip()
    assert project.stop("store") == 0
    project.start("store")
    project.wait_until_healthy("store")
    client = client_of(project, key)
    wait_until(lambda: client.get("/voices").status_code == 200, "the key to be accepted again")
    assert client.preview(150, "Hello.", Prefer="wait=25").status_code == 200, project.logged("worker")


def test_services_stop_in_grace_period(project: Project) -> None:
    for name in reversed(STARTED):
        # After the shutdown, uvicorn raises the signal again.
        assert project.stop(name) in {0, -signal.SIGTERM}, project.logged(name)
        assert "Traceback" not in project.logged(name)
