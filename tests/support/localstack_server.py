"""LocalStack in host mode, as a local process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localstack_client.config import get_service_endpoint
from supervision.ports import free_port

from tests.e2e.stack import ROOT, wait_until

HOST = "127.0.0.1"
START_SECONDS = 300


@contextmanager
def running(log: Path) -> Iterator[str]:
    """Run LocalStack until the context ends, and yield its URL."""
    host = f"{HOST}:{free_port(HOST)}"
    folder = ROOT / "localstack"
    with log.open("wb") as output:
        process = subprocess.Popen(
            # It ends with this process, even if that is killed.
            [
                sys.executable,
                str(folder / "supervision" / "exit_with_parent.py"),
                str(folder / "localstack_host.py"),
            ],
            env={**os.environ, "LOCALSTACK_HOST": host},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(
            lambda: b"Ready: " in log.read_bytes() or process.poll() is not None,
            "LocalStack ready",
            START_SECONDS,
        )
        assert process.poll() is None, log.read_text()[-4000:]
        endpoint = get_service_endpoint("s3", host)
        assert endpoint is not None
        yield endpoint
    finally:
        process.communicate(timeout=20)
