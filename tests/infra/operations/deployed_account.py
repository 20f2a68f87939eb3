"""An AWS account with a deployed stack, in which time passes only when the operator waits."""

import base64
from typing import Any

from tests.infra.operations.account import DEFAULTS, Account, Pages, error, exceptions

STEP = 10
BUCKET, VOICES, REGISTRY = "temporary", "voices", "1.dkr.ecr.us-east-1.amazonaws.com/workers"
ROOT, NESTED = "arn:stack/root", "arn:stack/nested"
LAUNCH_SECONDS = 90
TERMINATION_SECONDS = 120
SWEEP_SECONDS = 40


class DeployedAccount(Account):
    """A stack with one nested stack.  An instance runs one task, with the image of the service."""

    def __init__(self, status: str | None = "CREATE_COMPLETE", *, image: str = "", **wrong: Any) -> None:
        super().__init__(**wrong)
        self.cloudformation = self.ecs = self.ecr = self.scaling = self.autoscaling = self
        self.events = self.s3 = self.ssm = self
        self.now = 0
        self.status, self.parameters = status, {**DEFAULTS, "ImageTag": image}
        self.log: list[str] = []
        self.objects: list[str] = ["jobs/1"]
        self.rule, self.sweeps_end = "ENABLED", list[int]()
        self.images = {image: "sha256:0"} if image else {}
        self.desired, self.is_suspended, self.tasks = 0, False, list[str]()
        self.instances, self.ending, self.most_instances = dict[str, int](), dict[str, int](), 4
        self.protected: set[str] = set()
        self.changed_at, self.previous = 0, image
        self.failure: tuple[str, str] | None = None
        self.deletion_failures: list[str] = []
        self.missing: set[str] = set()
        self.late_writes = 0
        self.history: str | None = None

    # time

    def sleep(self, seconds: float) -> None:
        for _ in range(int(seconds) // STEP):
            self.now += STEP
            self._sweep()
            self._run_instances()
            self._progress()

    def _sweep(self) -> None:
        if self.rule == "ENABLED" and self.now % 60 == 0:
            self.sweeps_end.append(self.now + SWEEP_SECONDS)
        if self.now in self.sweeps_end:
            self.objects.append("sweeps/last.json")

    def _run_instances(self) -> None:
        if self.most_instances == 0:
            for name in self.instances.keys() - self.protected:
                self.ending.setdefault(name, self.now + TERMINATION_SECONDS)
            self.instances = {
                name: at for name, at in self.instances.items() if self.ending.get(name, self.now) >= self.now
            }
        elif len(self.instances) < self.desired and not self.wrong.get("no_capacity"):
            name = f"i-{len(self.instances)}"
            self.instances[name] = self.now + LAUNCH_SECONDS
            self.protected.add(name)
        ready = sum(at <= self.now for at in self.instances.values())
        self.tasks = self.tasks[: self.desired]
        if self.image not in self.wrong.get("broken", ()):
            self.tasks = [f"task of {self.image}"] * min(self.desired, ready)

    @property
    def image(self) -> str:
        return self.parameters["ImageTag"]

    def _progress(self) -> None:
        passed = self.now - self.changed_at
        is_steady = len(self.tasks) == self.desired and all(one.endswith(self.image) for one in self.tasks)
        match self.status:
            case "UPDATE_IN_PROGRESS" if is_steady and passed >= 60:
                self.status = "UPDATE_COMPLETE"
            case "UPDATE_IN_PROGRESS" if self.image in self.wrong.get("broken", ()) and passed >= 300:
                self._roll_back("Service", "ECS Deployment Circuit Breaker was triggered")
            case "UPDATE_ROLLBACK_IN_PROGRESS" if is_steady:
                self.status = "UPDATE_ROLLBACK_COMPLETE"
            case "DELETE_IN_PROGRESS" if passed >= 60:
                self._finish_deletion()

    def _roll_back(self, resource: str, reason: str) -> None:
        self.status, self.failure = "UPDATE_ROLLBACK_IN_PROGRESS", (resource, reason)
        self.parameters["ImageTag"], self.tasks = self.previous, []

    def _finish_deletion(self) -> None:
        if self.late_writes:
            self.late_writes -= 1
            self.objects.append("jobs/late")
        if self.objects:
            self.deletion_failures.append("The bucket you tried to delete is not empty")
        elif self.instances:
            self.deletion_failures.append("The group has instances")
        elif not self.wrong.get("stuck"):
            self.status = None
            return
        self.failure = ("Ephemeral", self.deletion_failures[-1] if self.deletion_failures else "stuck")
        self.status = "DELETE_FAILED"

    # CloudFormation

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        if self.status is None:
            raise error("ValidationError", f"Stack with id {StackName} does not exist")
        outputs = {"Repository": REGISTRY, "Cluster": "c", "InstanceGroup": "g"}
        outputs |= {"Service": "w"} if self.image else {}
        if self.status in {"ROLLBACK_FAILED", "DELETE_FAILED"}:
            outputs = {}
        described = {
            "StackStatus": self.status,
            "Parameters": [{"ParameterKey": name, "ParameterValue": one} for name, one in self.parameters.items()],
            "Outputs": [{"OutputKey": name, "OutputValue": one} for name, one in outputs.items()],
        }
        return {"Stacks": [described]}

    def get_paginator(self, name: str) -> Any:
        pages: dict[str, Any] = {
            "list_stack_resources": self._resources,
            "describe_stack_events": self._events,
            "list_objects_v2": self._objects,
        }
        return Pages(pages[name]) if name in pages else super().get_paginator(name)

    def _resources(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        nested = {
            ("AWS::S3::Bucket", "Ephemeral"): BUCKET,
            ("AWS::S3::Bucket", "Voices"): VOICES,
            ("AWS::Events::Rule", "SweepFunctionEveryMinute"): "sweep",
            ("AWS::ECS::Cluster", "Cluster"): "c",
            ("AWS::ECS::Service", "Service"): "arn:aws:ecs:us-east-1:1:service/c/w",
            ("AWS::AutoScaling::AutoScalingGroup", "Instances"): "g",
            ("AWS::IAM::Role", "LogRole"): "role-of-stack",
            ("AWS::IAM::Role", "NeverCreated"): "",
        }
        all_ = nested if StackName == NESTED else {("AWS::CloudFormation::Stack", "Nested"): NESTED}
        return {
            "StackResourceSummaries": [
                {
                    "ResourceType": kind,
                    "LogicalResourceId": name,
                    "PhysicalResourceId": id_,
                    "ResourceStatus": "CREATE_COMPLETE",
                }
                for (kind, name), id_ in all_.items()
            ]
        }

    def _events(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        """Return the events as CloudFormation does: the latest first, nested failures only in the nested stack."""
        name, reason = self.failure or ("", "")
        if StackName != NESTED:
            name, reason = "Nested", "Embedded stack was not successfully updated"

        def event(id_: str, logical: str, status: str, why: str = "") -> dict[str, str]:
            kind = "AWS::CloudFormation::Stack" if id_.startswith("arn:stack") else "AWS::Other"
            return {
                "StackId": StackName,
                "PhysicalResourceId": id_,
                "LogicalResourceId": logical,
                "ResourceType": kind,
                "ResourceStatus": status,
                "ResourceStatusReason": why,
            }

        failed = event("x" if StackName == NESTED else NESTED, name, "UPDATE_FAILED", reason)
        started = event(StackName, "self", "UPDATE_IN_PROGRESS", "User Initiated")
        cancelled = event("y", "Other", "UPDATE_FAILED", "Resource update cancelled")
        old = event("z", "Old", "UPDATE_FAILED", "a failure of an earlier update")
        return {"StackEvents": [cancelled, *([failed] if self.failure else []), started, old]}

    def update_stack(self, *, Parameters: list[dict[str, Any]], **_: Any) -> None:  # noqa: N803
        given = {one["ParameterKey"]: one for one in Parameters}
        assert set(given) == set(self.parameters)
        changed = {name: one["ParameterValue"] for name, one in given.items() if "ParameterValue" in one}
        if changed.items() <= self.parameters.items():
            raise error("ValidationError", "No updates are to be performed.")
        self.log += [f"{name}={value}" for name, value in changed.items()]
        self.previous, self.failure = self.image, None
        if not self.previous:
            self.desired = 1  # ECS's default for a new service
        self.parameters |= changed
        self.status, self.changed_at, self.tasks = "UPDATE_IN_PROGRESS", self.now, []

    def cancel_update_stack(self, **_: Any) -> None:
        if self.status != "UPDATE_IN_PROGRESS":
            raise error("ValidationError")
        self.log.append("cancelled")
        self._roll_back("Service", "Resource update cancelled by the user")

    def delete_stack(self, **_: Any) -> None:
        self.log.append("delete")
        self.status, self.changed_at = "DELETE_IN_PROGRESS", self.now

    def update_termination_protection(self, **_: Any) -> None:
        pass

    # the sweep and its bucket

    def describe_rule(self, *, Name: str) -> dict[str, str]:  # noqa: N803
        self._check("rule")
        return {"State": self.rule}

    def disable_rule(self, *, Name: str) -> None:  # noqa: N803
        self.rule = "DISABLED"

    def _objects(self, *, Bucket: str) -> dict[str, Any]:  # noqa: N803
        self._check("bucket")
        assert Bucket == BUCKET
        return {"Contents": [{"Key": key} for key in self.objects]}

    def delete_objects(self, *, Delete: dict[str, Any], **_: Any) -> None:  # noqa: N803
        self.objects = [key for key in self.objects if {"Key": key} not in Delete["Objects"]]

    def _check(self, what: str) -> None:
        codes = {
            "rule": "ResourceNotFoundException",
            "bucket": "NoSuchBucket",
            "service": "ServiceNotFoundException",
            "cluster": "ClusterNotFoundException",
        }
        if what in self.missing:
            raise error(codes[what])

    # workers

    def describe_services(self, **_: Any) -> dict[str, Any]:
        return {"services": [{"desiredCount": self.desired, "runningCount": len(self.tasks)}]}

    def update_service(self, *, desiredCount: int, **_: Any) -> None:  # noqa: N803
        self._check("service")
        self.log.append(f"desired {desiredCount}")
        self.desired = desiredCount

    def list_tasks(self, **_: Any) -> dict[str, Any]:
        self._check("cluster")
        return {"taskArns": list(self.tasks)}

    def stop_task(self, *, task: str, **_: Any) -> None:
        self.log.append(f"stop {task}")

    def describe_scalable_targets(self, **_: Any) -> dict[str, Any]:
        return {"ScalableTargets": [] if "service" in self.missing else [{}]}

    def register_scalable_target(self, *, SuspendedState: dict[str, bool], **_: Any) -> None:  # noqa: N803
        self.is_suspended = any(SuspendedState.values())
        self.log.append("scaling suspended" if self.is_suspended else "scaling resumed")

    def describe_auto_scaling_groups(self, **_: Any) -> dict[str, Any]:
        instances = [
            {
                "InstanceId": name,
                "ProtectedFromScaleIn": name in self.protected,
                "LifecycleState": "InService" if self.instances[name] <= self.now else "Pending",
            }
            for name in self.instances
        ]
        return {"AutoScalingGroups": [] if "group" in self.missing else [{"Instances": instances}]}

    def update_auto_scaling_group(self, *, MaxSize: int, **_: Any) -> None:  # noqa: N803
        self.most_instances = MaxSize

    def set_instance_protection(self, *, InstanceIds: list[str], **_: Any) -> None:  # noqa: N803
        self.protected -= set(InstanceIds)

    def describe_scaling_activities(self, **_: Any) -> dict[str, Any]:
        refused = {"StatusCode": "Failed", "StatusMessage": "We currently do not have sufficient capacity."}
        return {"Activities": [refused] if self.wrong.get("no_capacity") else []}

    # images and history

    def describe_images(self, *, imageIds: list[dict[str, str]], **_: Any) -> dict[str, Any]:  # noqa: N803
        tag = imageIds[0]["imageTag"]
        if tag not in self.images:
            raise exceptions.ImageNotFoundException(tag)
        return {"imageDetails": [{"imageDigest": self.images[tag]}]}

    def get_authorization_token(self) -> dict[str, Any]:
        return {"authorizationData": [{"authorizationToken": base64.b64encode(b"AWS:password").decode()}]}

    def get_parameter(self, **_: Any) -> dict[str, Any]:
        if self.history is None:
            raise exceptions.ParameterNotFound
        return {"Parameter": {"Value": self.history}}

    def put_parameter(self, *, Value: str, **_: Any) -> None:  # noqa: N803
        self.history = Value

    def delete_parameters(self, **_: Any) -> None:
        self.history = None
