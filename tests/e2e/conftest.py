"""Services for the end-to-end tests: local without and with keys, and the template in an emulator."""

from collections.abc import Iterator

import pytest

from tests.e2e.client import Client
from tests.e2e.deployment import Deployment, deployed
from tests.e2e.stack import Stack, running


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The template, deployed to an AWS emulator."""
    with deployed(tmp_path_factory.mktemp("cloud") / "data") as everything:
        yield everything


# Session scope groups the tests by parameter, so each stack is started once and one at a time.
@pytest.fixture(
    scope="session",
    params=[
        "open",
        pytest.param("with keys", marks=pytest.mark.slow),
        pytest.param("deployed", marks=pytest.mark.slow),
    ],
)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack | Deployment]:
    """A running service: two API processes, without or with keys, or the deployment in the emulator."""
    if request.param == "deployed":
        yield request.getfixturevalue("deployment")
        return
    keys = {"AUTH": "keys", "HOST": "0.0.0.0"} if request.param == "with keys" else {}
    data = tmp_path_factory.mktemp("e2e") / "data"
    with running(data, {"UVICORN_WORKERS": "2", **keys}) as running_stack:
        if keys:
            running_stack.key = running_stack.make_key("alice")
        yield running_stack


@pytest.fixture
def client(stack: Stack | Deployment) -> Client:
    """A client of the running service."""
    return Client(stack.url, stack.socket_url, stack.key)
