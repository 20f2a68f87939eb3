"""The commands that push images and deploy workers."""

from pathlib import Path
from typing import Any

import pytest

from infra.operations.environment import Refused
from infra.operations.image import promote_image, push_image
from infra.operations.stack import Stack, change_parameter, find_stack, get_stack
from infra.operations.worker import deploy_worker
from tests.infra.operations.deployed_account import REGISTRY, DeployedAccount


def account_with(*tags: str, image: str = "", **wrong: Any) -> DeployedAccount:
    account = DeployedAccount(image=image, **wrong)
    account.images |= {tag: f"sha256:{tag}" for tag in tags}
    return account


def stack_of(account: DeployedAccount) -> Stack:
    return get_stack(account, "s")


def test_deploy_worker_keeps_parameters() -> None:
    account = account_with("v1")
    account.parameters |= {"MaxWorkers": "7", "AlarmEmail": "a@example.com"}
    before = dict(account.parameters)
    deploy_worker(account, stack_of(account), "v1")
    assert account.parameters == {**before, "ImageTag": "v1"}


def test_deploy_worker_missing_image() -> None:
    account = account_with()
    with pytest.raises(Refused, match="make worker-image TAG=v9"):
        deploy_worker(account, stack_of(account), "v9")
    assert account.log == []


def test_deploy_worker_without_workers() -> None:
    account = account_with("v1")
    account.parameters["Workers"] = "off"
    with pytest.raises(Refused, match="Workers=off"):
        deploy_worker(account, stack_of(account), "v1")


@pytest.mark.parametrize(("desired", "started"), [(0, ["desired 1"]), (3, [])])
def test_deploy_worker_suspends_scaling(desired: int, started: list[str]) -> None:
    account = account_with("v2", image="v1")
    account.desired = desired
    deploy_worker(account, stack_of(account), "v2")
    assert account.log == ["scaling suspended", *started, "ImageTag=v2", "scaling resumed"]
    assert account.status == "UPDATE_COMPLETE"


def test_deploy_worker_same_image_changes_nothing() -> None:
    account = account_with(image="v1")
    deploy_worker(account, stack_of(account), "v1")
    assert account.log == []


def test_deploy_worker_failure_reports_nested_reason() -> None:
    account = account_with("v2", image="v1", broken=["v2"])
    with pytest.raises(Refused, match="Service: ECS Deployment Circuit Breaker"):
        deploy_worker(account, stack_of(account), "v2")
    assert account.status == "UPDATE_ROLLBACK_COMPLETE"
    assert account.image == "v1"
    assert not account.is_suspended


def test_deploy_worker_without_capacity() -> None:
    """Scaling resumes after the rollback: with no desired worker, the update would count as complete."""
    account = account_with("v2", image="v1", no_capacity=True)
    with pytest.raises(Refused, match=r"30 minutes.*UPDATE_ROLLBACK_COMPLETE.*sufficient capacity"):
        deploy_worker(account, stack_of(account), "v2")
    assert account.image == "v1"
    cancelled = ["ImageTag=v2", "cancelled", "desired 0", "scaling resumed"]
    assert account.log == ["scaling suspended", "desired 1", *cancelled]


def test_first_worker_without_capacity() -> None:
    account = account_with("v1", no_capacity=True)
    with pytest.raises(Refused, match="sufficient capacity"):
        deploy_worker(account, stack_of(account), "v1")
    assert account.image == ""


def test_deploy_worker_stopped_service_is_unproven() -> None:
    class Stopped(DeployedAccount):
        def update_stack(self, **request: Any) -> None:
            super().update_stack(**request)
            self.desired = 0

    account = Stopped(image="v1")
    account.images["v2"] = "sha256:v2"
    with pytest.raises(Refused, match="no worker has run it"):
        deploy_worker(account, stack_of(account), "v2")


def test_change_parameter_without_update() -> None:
    account = account_with(image="v1")
    change_parameter(account, stack_of(account), "ImageTag", "v1")
    assert account.status == "CREATE_COMPLETE"


def test_missing_stack_refused() -> None:
    account = DeployedAccount(status=None)
    assert find_stack(account, "s") is None
    with pytest.raises(Refused, match="make deploy"):
        get_stack(account, "s")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("ROLLBACK_COMPLETE", "make teardown STACK=s"),
        ("ROLLBACK_FAILED", "make teardown STACK=s"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "Wait"),
        ("REVIEW_IN_PROGRESS", "make deploy"),
    ],
)
def test_stack_status_refused(status: str, advice: str) -> None:
    with pytest.raises(Refused, match=advice):
        get_stack(DeployedAccount(status), "s")


# images


@pytest.fixture
def docker_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that records its arguments and the setting of attestations."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$BUILDX_NO_DEFAULT_ATTESTATIONS $@" >> {tmp_path}/calls\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "calls"


def test_push_image_existing_tag_refused() -> None:
    account = account_with("v1")
    with pytest.raises(Refused, match="take another"):
        push_image(account, stack_of(account), "v1")


def test_push_image_platform_and_weights(docker_calls: Path) -> None:
    account = account_with()
    push_image(account, stack_of(account), "v1")
    build, login, pushed = docker_calls.read_text().splitlines()
    assert build.startswith("1 build ")
    assert "--platform linux/amd64" in build
    assert "WEIGHTS=baked" in build
    assert "login --username AWS --password-stdin " in login
    assert pushed == f"1 push {REGISTRY}:v1"


def test_promote_image_copies_digest(docker_calls: Path) -> None:
    class Copied(DeployedAccount):
        """Has the image after the copy only."""

        def describe_images(self, **request: Any) -> dict[str, Any]:
            is_source = request["repositoryName"] == "source"
            if not (is_source or docker_calls.exists()):
                raise self.exceptions.ImageNotFoundException
            return {"imageDetails": [{"imageDigest": "sha256:1"}]}

    account = Copied()
    source = Stack("staging", "CREATE_COMPLETE", {}, {"Repository": "registry/source"})
    promote_image(account, source, stack_of(account), "v1")
    copied = docker_calls.read_text().splitlines()[-1]
    assert copied.endswith(f"--prefer-index=false --tag {REGISTRY}:v1 registry/source@sha256:1")


def test_promote_image_different_image_refused() -> None:
    class Different(DeployedAccount):
        def describe_images(self, **request: Any) -> dict[str, Any]:
            return {"imageDetails": [{"imageDigest": f"sha256:{request['repositoryName']}"}]}

    account = Different()
    source = Stack("staging", "CREATE_COMPLETE", {}, {"Repository": "registry/source"})
    with pytest.raises(Refused, match="not the one of staging"):
        promote_image(account, source, stack_of(account), "v1")


def test_promote_image_missing_refused() -> None:
    account = account_with()
    with pytest.raises(Refused, match="no image v1"):
        promote_image(account, stack_of(account), stack_of(account), "v1")
