"""The operator commands in sequence, against an emulated account: workers keep their image."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from environments.venvs import LOCKS, ensure

from infra.operations.__main__ import main
from infra.operations.clients import Clients
from infra.operations.environment import load_environment
from infra.operations.stack import Stack, change_parameter, get_stack
from infra.package.python import find_python
from tests.e2e.deployment import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployed")]

DIGESTS = {"v1": "sha256:" + "1" * 64, "v2": "sha256:" + "2" * 64}


class Scaling:
    """Application Auto Scaling, which the emulator lacks."""

    def register_scalable_target(self, **_: Any) -> None:
        """Accept any request."""


@pytest.fixture
def clients(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """Clients of the emulator.  The environment variables let the SAM CLI use it too."""
    assert deployment.deployed is not None
    monkeypatch.setenv("AWS_ENDPOINT_URL", deployment.deployed.endpoint_url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", deployment.deployed.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", deployment.deployed.secret_access_key)
    monkeypatch.setattr(Clients, "scaling", Scaling())
    return Clients("us-east-1")


def run(*arguments: str) -> None:
    assert main(["--env", "default", *arguments]) == 0


def stack_of(clients: Clients) -> Stack:
    return get_stack(clients.cloudformation, load_environment("default").stack)


def push(clients: Clients, repository: str, tag: str) -> None:
    """Put an image without layers, as `docker push` does."""
    docker = "application/vnd.docker"
    config = {"mediaType": f"{docker}.container.image.v1+json", "size": 1, "digest": DIGESTS[tag]}
    media_type = f"{docker}.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []}
    name = repository.split("/", 1)[1]
    clients.ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag=tag)


def test_code_deployment_keeps_worker_image(deployment: Deployment, clients: Clients) -> None:
    sam = str(ensure("sam", LOCKS["sam"]).with_name("sam"))
    change_parameter(clients, stack_of(clients), "Workers", "on")
    before = stack_of(clients)
    # Without an image there is a repository, but no service.
    assert "Service" not in before.outputs
    for tag in ("v1", "v2"):
        push(clients, before.outputs["Repository"], tag)
        run("worker", "--tag", tag)
    assert image_of(clients) == "v2"

    run("deploy", "--sam", sam, "--yes")
    assert stack_of(clients).parameters["ImageTag"] == "v2"
    assert image_of(clients) == "v2"
    assert stack_of(clients).parameters["AlarmEmail"] == before.parameters["AlarmEmail"]
    assert httpx.get(f"{deployment.url}/health", timeout=60).status_code == 200

    run("worker", "--tag", "v1")
    assert image_of(clients) == "v1"
    run("rollback", "--sam", sam, "--yes")
    assert image_of(clients) == "v2"


def image_of(clients: Clients) -> str:
    """Return the image tag in the task definition of the service."""
    outputs = stack_of(clients).outputs
    (service,) = clients.ecs.describe_services(cluster=outputs["Cluster"], services=[outputs["Service"]])[
        "services"
    ]
    task = clients.ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    (container,) = task["containerDefinitions"]
    return str(container["image"]).rpartition(":")[2]


def test_deployment_uses_shipped_package() -> None:
    """With Lambda's Python installed, the emulator uses the package that is shipped."""
    if find_python() is None:
        pytest.skip("this machine has no Python 3.13")
    assert (Path(__file__).parents[2] / ".aws-sam" / "package" / "made-from.txt").exists()
