"""The command that deletes a stack."""

from typing import Any

import pytest

from infra.operations.clients import Clients
from infra.operations.history import Version, note_version, read_history
from infra.operations.stack import Stack
from infra.operations.teardown import tear_down
from tests.infra.operations.account import Service, make_stack


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
