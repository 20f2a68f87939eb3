"""The commands that push images and deploy workers."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.operations.clients import Clients
from infra.operations.environment import Refused
from infra.operations.image import push_image
from infra.operations.stack import Stack, change_parameter, find_stack, get_stack
from infra.operations.worker import deploy_worker
from tests.infra.operations.account import Service, make_stack

MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 1,
        "digest": "sha256:" + "a" * 64,
    },
    "layers": [],
}


def push(clients: Clients, tag: str) -> None:
    manifest = json.dumps(MANIFEST | {"layers": [{"mediaType": "x", "size": 1, "digest": f"sha256:{tag}"}]})
    clients.ecr.put_image(repositoryName="workers", imageManifest=manifest, imageTag=tag)


def test_deploy_worker_keeps_parameters(clients: Clients) -> None:
    stack = make_stack(clients, MaxWorkers="7", AlarmEmail="a@example.com")
    push(clients, "v1")
    deploy_worker(clients, stack, "v1")
    now = get_stack(clients.cloudformation, "s").parameters
    assert now == {**stack.parameters, "ImageTag": "v1"}
    assert (now["MaxWorkers"], now["AlarmEmail"]) == ("7", "a@example.com")


def test_deploy_worker_missing_image(clients: Clients) -> None:
    stack = make_stack(clients)
    with pytest.raises(Refused, match="make worker-image TAG=v9"):
        deploy_worker(clients, stack, "v9")
    assert get_stack(clients.cloudformation, "s").parameters["ImageTag"] == ""


def test_deploy_worker_without_workers(clients: Clients) -> None:
    with pytest.raises(Refused, match="Workers=off"):
        deploy_worker(clients, make_stack(clients, Workers="off"), "v1")


def test_push_image_existing_tag_refused(clients: Clients) -> None:
    stack = make_stack(clients)
    push(clients, "v1")
    with pytest.raises(Refused, match="take another"):
        push_image(clients.ecr, stack, "v1")


def test_push_image_platform_and_weights(clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stack = make_stack(clients)
    push_image(clients.ecr, stack, "v1")
    build, login, pushed = (tmp_path / "calls").read_text().splitlines()
    assert "--platform linux/amd64" in build
    assert "WEIGHTS=baked" in build
    assert login.startswith("login --username AWS --password-stdin ")
    assert pushed == f"push {stack.outputs['Repository']}:v1"


def test_missing_stack_refused(clients: Clients) -> None:
    assert find_stack(clients.cloudformation, "nowhere") is None
    with pytest.raises(Refused, match="make deploy"):
        get_stack(clients.cloudformation, "nowhere")


@pytest.mark.parametrize(
    ("desired", "requests"), [(0, ["scaling suspended", "desired 1"]), (3, ["scaling suspended"])]
)
@pytest.mark.parametrize("fails", [False, True])
def test_deploy_worker_suspends_scaling(
    clients: Clients, desired: int, requests: list[str], fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_stack(clients)
    stack = Stack("s", made.status, made.parameters, {**made.outputs, "Cluster": "c", "Service": "w"})
    push(clients, "v1")
    service = Service(desired)
    monkeypatch.setattr(clients, "ecs", service)
    monkeypatch.setattr(clients, "scaling", service)
    if fails:
        clients.cloudformation.delete_stack(StackName="s")
        with pytest.raises(Exception, match="does not exist"):
            deploy_worker(clients, stack, "v1")
    else:
        deploy_worker(clients, stack, "v1")
        assert get_stack(clients.cloudformation, "s").parameters["ImageTag"] == "v1"
    assert service.requests == [*requests, "scaling resumed"]


def test_change_parameter_without_update(clients: Clients) -> None:
    stack = make_stack(clients, ImageTag="v1")

    class Unchanged:
        def update_stack(self, **_: Any) -> None:
            message = "No updates are to be performed."
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "UpdateStack")

    change_parameter(Unchanged(), stack, "ImageTag", "v1")
