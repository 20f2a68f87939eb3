"""Cold start time of a function: `python -m tests.benchmarks.cold_start`.

The package of `sam build` is compared with a minimal application, FastAPI and Mangum with one route.  Each start is
a new process of the Lambda runtime behind its interface emulator.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from environments import ROOT
from environments.venvs import LOCKS, ensure
from supervision.ports import free_port

from tests.support.aws_events import recorded

BARE = """
from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()


@app.get("/jobs/none")
async def none() -> dict[str, str]:
    return {}


handler = Mangum(app, lifespan="off")
"""
# A request that needs the whole application, but no external service.
EVENT = recorded("http_get") | {"rawPath": "/jobs/none"}
EVENT["requestContext"]["http"]["path"] = "/jobs/none"
PATIENCE_SECONDS = 60.0
MOST = 2.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """Lambda's interface emulator, and a Python with its runtime client."""

    emulator: Path
    python: Path
    package: Path


@dataclass(frozen=True, slots=True)
class Function:
    """A handler, and the expected status of its response."""

    name: str
    handler: str
    status: int


OURS = Function("this service", "functions.aws.http.handler", 404)
LEAST = Function("FastAPI and Mangum alone", "bare.handler", 200)


def runtime(folder: Path) -> Runtime:
    """Build the package, and return the runtime for it."""
    sam, python = ensure("sam", LOCKS["sam"]), ensure("lambda", LOCKS["lambda"])
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    (emulator,) = sam.parents[1].glob(f"lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}")
    executable = shutil.copy(emulator, folder / "rie")  # pip does not set the executable bit
    Path(executable).chmod(0o700)
    package = folder / "package"
    build = ROOT / "infra" / "package" / "build.py"
    subprocess.run([sys.executable, str(build), "--here", str(package)], check=True)
    (package / "bare.py").write_text(BARE)
    return Runtime(Path(executable), python, package)


def cold_start(on: Runtime, function: Function) -> float:
    """Start a function, send one event, and return the duration in seconds."""
    port, inner = free_port("127.0.0.1"), free_port("127.0.0.1")
    addresses = [
        f"--runtime-interface-emulator-address=127.0.0.1:{port}",
        f"--runtime-api-address=127.0.0.1:{inner}",
    ]
    command = [str(on.emulator), *addresses, str(on.python), "-m", "awslambdaric", function.handler]
    with running(command, on.package), httpx.Client(timeout=PATIENCE_SECONDS) as client:
        url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
        wait_until_listening(client, url)
        began = time.perf_counter()
        answer = client.post(url, json=EVENT).json()
        seconds = time.perf_counter() - began
    if answer.get("statusCode") != function.status:
        raise SystemExit(f"{function.name} answered {json.dumps(answer)}")
    return seconds


@contextmanager
def running(command: list[str], package: Path) -> Iterator[None]:
    """Run the emulator.  It starts the function's process with the first event."""
    environment = {
        "PATH": os.environ["PATH"],
        "LAMBDA_TASK_ROOT": str(package),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AUTH": "none",
        "LOG_FORMAT": "json",
    }
    process = subprocess.Popen(
        command, cwd=package, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_until_listening(client: httpx.Client, url: str) -> None:
    """Wait for the emulator, which responds to GET with an error."""
    end = time.perf_counter() + PATIENCE_SECONDS
    while time.perf_counter() < end:
        try:
            client.get(url.rsplit("/2015", 1)[0])
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("The runtime interface emulator does not listen.")


def main() -> int:
    """Measure alternately and print Markdown.  Return 1 if the ratio exceeds the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="cold starts of each")
    arguments = parser.parse_args()
    taken: dict[Function, list[float]] = {LEAST: [], OURS: []}
    with tempfile.TemporaryDirectory() as name:
        on = runtime(Path(name))
        for function in taken:
            cold_start(on, function)  # fills the page cache for both
        for _ in range(arguments.count):
            for function, seconds in taken.items():
                seconds.append(cold_start(on, function))
    print("| cold start to first answer | median | least |\n|---|---|---|")
    for function, seconds in taken.items():
        print(f"| {function.name} | {statistics.median(seconds) * 1000:.0f} ms | {min(seconds) * 1000:.0f} ms |")
    ratio = statistics.median(taken[OURS]) / statistics.median(taken[LEAST])
    print(f"\nRatio of the medians: {ratio:.2f}; it should be under {MOST:g}.")
    return 0 if ratio < MOST else 1


if __name__ == "__main__":
    sys.exit(main())
