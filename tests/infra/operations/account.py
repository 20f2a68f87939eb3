"""An AWS account served by moto, with a stack."""

import json
from typing import Any

from infra.operations.clients import Clients
from infra.operations.stack import Stack, get_stack
from tests.infra.cloudformation import template

DEFAULTS = {name: str(one["Default"]) for name, one in template("root")["Parameters"].items()}


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
