"""Each role allows exactly the calls of its entry point.  Scenarios for each entry point record them."""

from typing import Any

import pytest

from tests.infra.cloudformation import as_list, statements
from tests.infra.roles.recorded_calls import Recorder
from tests.infra.roles.scenarios import ROLES, SCENARIOS
from tests.support.fake_service import FakeService
from tests.unit.functions.access.test_authorization import (
    SETTINGS,
)

LOGGING = {"logs:CreateLogStream", "logs:PutLogEvents"}

RECEIVING = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}

# Lambda receives the messages for functions, and the worker calls ECS through the agent.
EXTERNAL_ACTIONS = {
    "notify": RECEIVING,
    "webhooks": RECEIVING,
    "dead_letters": RECEIVING,
    "worker": {"ecs:UpdateTaskProtection"},
}


def allowed(name: str) -> set[tuple[str, str]]:
    """Return the actions and target patterns that a role allows."""
    return {
        (action, pattern)
        for statement in statements(*ROLES[name])
        for action in as_list(statement["Action"])
        for pattern in patterns(statement)
    }


def patterns(statement: dict[str, Any]) -> list[str]:
    if {"s3:ListBucket", "s3:ListBucketVersions"} & set(as_list(statement["Action"])):
        bucket = statement["Resource"]["Fn::Sub"].split("${")[-1].rstrip("}")
        return [f"{bucket}/{prefix}" for prefix in statement["Condition"]["StringLikeIfExists"]["s3:prefix"]]
    return [_pattern(resource) for resource in as_list(statement["Resource"])]


def _pattern(resource: dict[str, Any]) -> str:
    if "Fn::Sub" in resource:
        text: str = resource["Fn::Sub"]
        if "@connections" in text:
            return text.split("/")[-3]
        return text.rsplit(":::", 1)[-1].replace("${", "").replace("}", "")
    if resource == {"Ref": "PostArn"}:
        return "POST"
    return str(resource.get("Ref") or ".".join(resource["Fn::GetAtt"]))


@pytest.fixture(params=SCENARIOS)
async def recorded_calls(request: pytest.FixtureRequest) -> tuple[str, Recorder]:
    """The recorded calls of all scenarios of one entry point."""
    recorder = Recorder()
    await SCENARIOS[request.param](FakeService(SETTINGS), recorder)
    return request.param, recorder


def test_role_allows_exactly_used_actions(recorded_calls: tuple[str, Recorder]) -> None:
    name, recorder = recorded_calls
    permissions = {one for one in allowed(name) if one[0] not in EXTERNAL_ACTIONS.get(name, set()) | LOGGING}
    refused = {call_ for call_ in recorder.calls if not any(call_.is_within(*one) for one in permissions)}
    done = recorder.calls | recorder.missing_reads
    idle = {one for one in permissions if not any(call_.is_within(*one) for call_ in done)}
    assert (refused, idle) == (set(), set())


@pytest.mark.parametrize("name", ROLES)
def test_role_with_get_object_may_list(name: str) -> None:
    def buckets(action: str) -> set[str]:
        return {pattern.split("/")[0] for one, pattern in allowed(name) if one == action}

    assert buckets("s3:GetObject") <= buckets("s3:ListBucket")
