"""The operator commands: deployment, worker images, history, teardown and preflight."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from infra.operations import code, history, preflight
from infra.operations.clients import Clients
from infra.operations.environment import Refused, load_environment
from infra.operations.history import Version, note_version, read_history, version_before
from infra.operations.image import push_image
from infra.operations.stack import Stack, change_parameter, find_stack, get_stack
from infra.operations.teardown import tear_down
from infra.operations.worker import deploy_worker
from infra.package import python
from tests.infra.templates import ROOT, template

REGION = "us-east-1"
DEFAULTS = {name: str(one["Default"]) for name, one in template("root")["Parameters"].items()}
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


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        made = Clients(REGION)
        # moto does not implement it.
        monkeypatch.setattr(made.cloudformation, "update_termination_protection", lambda **_: None)
        yield made


# environments


def test_environments_are_deployable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    environments = [load_environment(name) for name in ("default", "staging", "production")]
    assert len({environment.stack for environment in environments}) == 3
    known = template("root")["Parameters"]
    for environment in environments:
        assert set(environment.parameters) <= set(known)


def test_environment_image_tag_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sam deploy --guided` writes it there, and the next code deployment would roll the workers back."""
    monkeypatch.setenv("AWS_REGION", REGION)
    config = tmp_path / "samconfig.toml"
    config.write_text('[default.deploy.parameters]\nstack_name = "x"\nparameter_overrides = ["ImageTag=v1"]\n')
    with pytest.raises(Refused, match="ImageTag"):
        load_environment("default", config)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("elsewhere", "", "no environment elsewhere; it has default"),
        ("default", 'parameter_overrides = ["MaxWorkers"]', "Name=value"),
    ],
)
def test_environment_invalid(name: str, text: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "samconfig.toml"
    config.write_text(f'version = 0.1\n[default.deploy.parameters]\nstack_name = "x"\n{text}\n')
    with pytest.raises(Refused, match=says):
        load_environment(name, config)


def test_environment_region_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refused, match="AWS_REGION"):
        load_environment("default")


# code


def test_deploy_code_builds_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`sam deploy` alone would ship sources instead of the package, and every function would fail."""
    monkeypatch.setenv("AWS_REGION", REGION)
    sam = tmp_path / "sam"
    sam.write_text(f'#!/bin/sh\necho "$PYTHON $@" >> {tmp_path}/calls\n')
    sam.chmod(0o755)
    monkeypatch.setattr(code, "find_python", lambda: "/the/python")
    code.deploy_code(sam, load_environment("staging"), asks=False)
    build, deploy = (tmp_path / "calls").read_text().splitlines()
    assert build.startswith("/the/python build ")
    assert deploy.startswith("/the/python deploy --template-file .aws-sam/build/template.yaml ")
    assert "--config-env staging" in build
    assert "--config-env staging" in deploy
    assert "--guided" not in deploy


def test_deploy_code_build_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    sam = tmp_path / "sam"
    sam.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\nexit 1\n')
    sam.chmod(0o755)
    monkeypatch.setattr(code, "find_python", lambda: "/the/python")
    with pytest.raises(Refused, match="ended with 1"):
        code.deploy_code(sam, load_environment("default"))
    assert (tmp_path / "calls").read_text() == "build\n"


def test_deploy_code_requires_lambda_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setattr(code, "find_python", lambda: None)
    with pytest.raises(Refused, match=r"Python 3\.13"):
        code.deploy_code(Path("/no/sam"), load_environment("default"))


def test_find_python_skips_broken_shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, says in (("shim", "exit 127"), ("other", "echo 3.12"), ("right", "echo 9.99")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(
        python, "_candidates", lambda _: [str(tmp_path / name) for name in ("gone", "shim", "other", "right")]
    )
    assert python.find_python("9.99") == str(tmp_path / "right")
    assert python.find_python("8.88") is None


def test_checkout_uses_separate_folder() -> None:
    here = history.commit_here().removesuffix("-dirty")
    with code.checkout(here) as place:
        assert (place / "template.yaml").is_file()
        assert place != ROOT
    assert not place.exists()
    with pytest.raises(Refused, match="not committed"), code.checkout(f"{here}-dirty"):
        pass


# history


def test_history_previous_version(clients: Clients) -> None:
    assert read_history(clients.ssm, "s") == []
    versions = [
        Version(commit, tag, "2026-01-01") for commit, tag in (("a", ""), ("a", "v1"), ("b", "v1"), ("b", "v1"))
    ]
    for version in versions:
        note_version(clients.ssm, "s", version)
    assert read_history(clients.ssm, "s") == versions
    assert version_before(versions) == versions[1]
    with pytest.raises(Refused, match="nothing to go back to"):
        version_before(versions[:1])


def test_history_fits_into_parameter(clients: Clients) -> None:
    for number in range(2 * history.KEPT):
        note_version(
            clients.ssm, "s", Version("0" * 40 + "-dirty", "v" * 128, f"2026-01-01T00:00:{number:02}+00:00")
        )
    assert len(read_history(clients.ssm, "s")) == history.KEPT
    text = clients.ssm.get_parameter(Name="/s/deployments")["Parameter"]["Value"]
    assert len(text) <= 4096  # the maximum size of a standard parameter


# the worker


def make_stack(clients: Clients, **parameters: str) -> Stack:
    """Create a stack with the parameters of the root template and the outputs that the operations use."""
    repository = clients.ecr.create_repository(repositoryName="workers")["repository"]
    body = {
        "Parameters": {name: {"Type": "String"} for name in DEFAULTS},
        "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}, "Queue": {"Type": "AWS::SQS::Queue"}},
        "Outputs": {
            "EphemeralBucket": {"Value": {"Ref": "Bucket"}},
            "Repository": {"Value": repository["repositoryUri"]},
        },
    }
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in (DEFAULTS | parameters).items()]
    clients.cloudformation.create_stack(StackName="s", TemplateBody=json.dumps(body), Parameters=given)
    return get_stack(clients.cloudformation, "s")


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


class Service:
    """An ECS service and its scaling.  It records the requests."""

    def __init__(self, desired: int) -> None:
        self.desired = desired
        self.requests: list[str] = []

    def describe_services(self, **_: Any) -> dict[str, Any]:
        return {"services": [{"desiredCount": self.desired}]}

    def update_service(self, *, desiredCount: int, **_: Any) -> None:  # noqa: N803
        self.desired = desiredCount
        self.requests.append(f"desired {desiredCount}")

    def register_scalable_target(self, *, SuspendedState: dict[str, bool], **_: Any) -> None:  # noqa: N803
        self.requests.append("scaling suspended" if any(SuspendedState.values()) else "scaling resumed")


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


# teardown


def test_tear_down_removes_bucket_and_history(clients: Clients) -> None:
    stack = make_stack(clients)
    bucket = stack.outputs["EphemeralBucket"]
    for number in range(3):
        clients.s3.put_object(Bucket=bucket, Key=f"jobs/{number}", Body=b"{}")
    note_version(clients.ssm, "s", Version("a", "", "2026-01-01"))
    tear_down(clients, stack)
    assert bucket not in [one["Name"] for one in clients.s3.list_buckets()["Buckets"]]
    assert read_history(clients.ssm, "s") == []


def test_tear_down_stops_protected_tasks(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_stack(clients)
    outputs = {**made.outputs, "Cluster": "c", "Service": "w", "InstanceGroup": "g"}
    group = start_group(clients)
    service = RunningService()
    monkeypatch.setattr(clients, "ecs", service)
    monkeypatch.setattr(clients, "scaling", service)
    slept: list[float] = []
    tear_down(clients, Stack("s", made.status, made.parameters, outputs), sleep=slept.append)
    assert service.requests == ["scaling suspended", "desired 0", "stop t1", "stop t2", "stop t2"]
    assert slept == [10, 10]
    assert not any(one["ProtectedFromScaleIn"] for one in group())


class RunningService(Service):
    """A service with two tasks.  One of them stops slowly."""

    def __init__(self) -> None:
        super().__init__(2)
        self._listings = iter([["t1", "t2"], ["t2"], []])

    def list_tasks(self, **_: Any) -> dict[str, Any]:
        return {"taskArns": next(self._listings)}

    def stop_task(self, *, task: str, **_: Any) -> None:
        self.requests.append(f"stop {task}")

    def register_scalable_target(self, *, SuspendedState: dict[str, bool], **more: Any) -> None:  # noqa: N803
        assert more["MinCapacity"] == 0
        assert all(SuspendedState.values())
        self.requests.append("scaling suspended")


def start_group(clients: Clients) -> Any:
    """Start a group of two protected instances, and return a function that lists them."""
    image = clients.ec2.describe_images()["Images"][0]["ImageId"]
    group = clients.autoscaling
    group.create_launch_configuration(LaunchConfigurationName="l", ImageId=image, InstanceType="g6.xlarge")
    group.create_auto_scaling_group(
        AutoScalingGroupName="g",
        LaunchConfigurationName="l",
        MinSize=2,
        MaxSize=2,
        AvailabilityZones=["us-east-1a"],
        NewInstancesProtectedFromScaleIn=True,
    )
    return lambda: group.describe_auto_scaling_groups(AutoScalingGroupNames=["g"])["AutoScalingGroups"][0][
        "Instances"
    ]


# preflight


class Account:
    """The responses of an AWS account to preflight.  By default all checks pass."""

    def __init__(self, **wrong: Any) -> None:
        self.wrong = wrong
        self.quotas = self.functions = self.ec2 = self.iam = self.gateway = self

    class exceptions:  # noqa: N801 - as boto3 has them
        class NoSuchEntityException(Exception):
            pass

    def get_service_quota(self, **_: Any) -> dict[str, Any]:
        return {
            "Quota": {"QuotaName": "Running On-Demand G and VT instances", "Value": self.wrong.get("vcpus", 64.0)}
        }

    def get_account_settings(self) -> dict[str, Any]:
        count = self.wrong.get("functions", 1000)
        return {"AccountLimit": {"ConcurrentExecutions": count, "UnreservedConcurrentExecutions": count}}

    def get_paginator(self, _name: str) -> "Account":
        return self

    def paginate(self, *, Filters: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:  # noqa: N803
        zones = self.wrong.get("zones", ["x-1a", "x-1b", "x-1c"])
        offered = [{"InstanceType": type_, "Location": zone} for type_ in Filters[0]["Values"] for zone in zones]
        return [
            {"InstanceTypeOfferings": [one for one in offered if one["InstanceType"] != self.wrong.get("no_type")]}
        ]

    def describe_availability_zones(self, **_: Any) -> dict[str, Any]:
        return {"AvailabilityZones": [{"ZoneName": f"x-1{letter}"} for letter in "abcd"]}

    def get_role(self, *, RoleName: str) -> None:  # noqa: N803
        if RoleName in self.wrong.get("roles", ()):
            raise self.exceptions.NoSuchEntityException

    def get_account(self) -> dict[str, Any]:
        return {"cloudwatchRoleArn": self.wrong["log_role"]} if "log_role" in self.wrong else {}


def findings(account: Account, **parameters: str) -> dict[str, str]:
    """Return the findings of preflight with their advice."""
    found = preflight.run_checks(account, DEFAULTS | parameters)
    return {
        one.verdict + " " + one.what: one.advice
        for one in found
        if one.verdict != "ok" and "Docker" not in one.what
    }


@pytest.fixture(autouse=True)
def python_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_python", lambda: "/the/python")


def test_preflight_without_findings() -> None:
    assert findings(Account()) == {}


@pytest.mark.parametrize(
    ("wrong", "parameters", "verdict", "advice"),
    [
        ({"vcpus": 0.0}, {}, "stop", "request-service-quota-increase"),
        ({"vcpus": 8.0}, {}, "look", "--desired-value 16"),
        ({"functions": 10}, {}, "look", "--service-code lambda"),
        ({"functions": 500}, {"HttpConcurrency": "450"}, "stop", "Lower it"),
        ({"zones": ["x-1b", "x-1d"]}, {}, "look", "Zones=x-1b,x-1d,x-1a"),
        ({"zones": ["x-1d"]}, {}, "stop", "Zones=x-1d,x-1a,x-1b"),
        ({"no_type": "g5.2xlarge"}, {}, "stop", "Name another"),
        ({"roles": ["AWSServiceRoleForECS"]}, {}, "look", "create-service-linked-role --aws-service-name ecs"),
        ({"roles": ["AWSServiceRoleForEC2Spot"]}, {"Spot": "on"}, "look", "spot.amazonaws.com"),
        ({}, {"WebSocketAccessLogs": "on"}, "stop", "make-role"),
        ({"log_role": "arn:x"}, {"WebSocketAccessLogs": "make-role"}, "stop", "set on instead"),
    ],
)
def test_preflight_finding_has_advice(
    wrong: dict[str, Any], parameters: dict[str, str], verdict: str, advice: str
) -> None:
    ((what, given_advice),) = findings(Account(**wrong), **parameters).items()
    assert what.startswith(verdict)
    assert advice in given_advice


def test_preflight_access_denied_continues() -> None:
    class Forbidding(Account):
        def get_account_settings(self) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "GetAccountSettings")

    (what,) = findings(Forbidding())
    assert what == "look function concurrency: not looked at (AccessDenied)"


def test_preflight_checks_given_zones() -> None:
    assert findings(Account(zones=["x-1b", "x-1c", "x-1d"]), Zones="x-1b,x-1c,x-1d") == {}
