"""The embedded AWS as a process."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config
from embedded import configuration
from embedded.storage.data_folder import AwsCredentials, new_credentials
from environments import LOCALSTACK, ROOT
from environments.venvs import LOCKS, ensure
from supervision.ports import free_port

from pipeline.settings import Settings
from tests.e2e.stack import START_SECONDS, wait_until

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Store:
    """A running store."""

    url: str
    credentials: AwsCredentials
    folder: Path
    pid: int

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rpartition(":")[2])

    def limit_file_size(self, size: int | None) -> None:
        """Let writes beyond this size fail as on a full disk; None: let them succeed again."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def client(self, service: str, credentials: AwsCredentials | None = None) -> Any:
        """Return a boto3 client that signs with these credentials, by default with the valid ones."""
        used = credentials or self.credentials
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=used.access_key_id,
            aws_secret_access_key=used.secret_access_key,
            config=Config(
                signature_version="s3v4" if service == "s3" else None,
                s3={"addressing_style": "path"},
                retries={"max_attempts": 1},
                request_checksum_calculation="when_required",
            ),
        )


@contextmanager
def running_store(data: Path, **settings: Any) -> Iterator[Store]:
    """Run the embedded AWS of `make run` until the context ends."""
    with _running("embedded.server", configuration.python(), data, Settings(**settings), {}) as store:
        yield store


@contextmanager
def running_emulator(data: Path) -> Iterator[Store]:
    """Run the embedded AWS of `make deploy-local`, with all services, until the context ends."""
    python = ensure("cloud", LOCKS["cloud"])
    changes = {"SERVICES": "", "OBJECTS_FOLDER": "", "QUEUES": ""}
    with _running("embedded.cloud_server", python, data, Settings(), changes) as store:
        yield store


@contextmanager
def _running(
    module: str, python: Path, data: Path, settings: Settings, changes: Mapping[str, str]
) -> Iterator[Store]:
    port, credentials = free_port(configuration.HOST), new_credentials()
    environment = {**configuration.server_environment(port, data, settings, credentials), **changes}
    process = subprocess.Popen(
        [str(python), str(LOCALSTACK / "supervision" / "exit_with_parent.py"), "-m", module],
        cwd=LOCALSTACK,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=sys.stderr,
    )
    url = f"http://{configuration.HOST}:{port}"
    try:
        wait_until(lambda: process.poll() is not None or _responds(url), "a response of the store", START_SECONDS)
        assert process.poll() is None
        yield Store(url, credentials, configuration.s3_folder_of(data), process.pid)
    finally:
        process.communicate(timeout=20)  # closes its standard input, which stops it


def _responds(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.TransportError:
        return False
    return True
