"""Where the end-to-end tests run: against the embedded AWS, and against LocalStack in host mode."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from localstack_client.config import get_service_endpoint
from supervision.ports import free_port

from tests.e2e.client import Client
from tests.e2e.deployment import Deployment, deployed
from tests.e2e.stack import ROOT, Stack, running, wait_until

HOST = "127.0.0.1"


@pytest.fixture(scope="session")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """LocalStack as a process of this machine; the environment that points at it."""
    host = f"{HOST}:{free_port(HOST)}"
    log = tmp_path_factory.mktemp("localstack") / "localstack.log"
    folder = ROOT / "localstack"
    with log.open("wb") as output:
        process = subprocess.Popen(
            # So that it ends with this process, however that ends.
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
        wait_until(lambda: b"Ready: " in log.read_bytes() or process.poll() is not None, "LocalStack ready", 300)
        assert process.poll() is None, log.read_text()[-4000:]
        endpoint = get_service_endpoint("s3", host)
        assert endpoint is not None
        yield {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    finally:
        process.communicate(timeout=20)  # closes its standard input


@pytest.fixture(scope="module", params=["embedded", "localstack"])
def aws(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The environment that says which AWS to use."""
    return _aws(request)


def _aws(request: pytest.FixtureRequest) -> Mapping[str, str]:
    if request.param != "localstack":
        return {}
    environment: Mapping[str, str] = request.getfixturevalue("localstack")
    return environment


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The template, deployed into an emulator of the cloud."""
    with deployed(tmp_path_factory.mktemp("cloud") / "data") as everything:
        yield everything


@pytest.fixture(scope="module", params=["embedded", "with keys", "localstack", "deployed"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack | Deployment]:
    """A running service: two API processes, open or with keys, or the whole of it in an emulated cloud."""
    if request.param == "deployed":
        yield request.getfixturevalue("deployment")
        return
    keys = {"AUTH": "keys", "HOST": "0.0.0.0"} if request.param == "with keys" else {}
    data = tmp_path_factory.mktemp("e2e") / "data"
    with running(data, {"UVICORN_WORKERS": "2", **keys, **_aws(request)}) as running_stack:
        if keys:
            running_stack.key = running_stack.make_key("alice")
        yield running_stack


@pytest.fixture
def client(stack: Stack | Deployment) -> Client:
    """A client of the running service."""
    return Client(stack.url, stack.socket_url, stack.key)
