"""The statements of each role against AWS's authorization reference and against recorded calls."""

from typing import Any

import pytest

from tests.infra.cloudformation import TEMPLATES
from tests.infra.roles.iam import (
    ACCOUNT,
    LOG_ARN,
    PARAMETERS,
    REGION,
    Call,
    faults,
    filled,
    is_allowed,
    reference,
    roles,
)
from tests.infra.roles.recorded_calls import RecordedCall, Recorder
from tests.infra.roles.scenarios import ROLES, SCENARIOS
from tests.support.fake_service import FakeService
from tests.unit.functions.access.test_authorization import SETTINGS

# The reference is part of checkov, which is installed for the second tier.
pytestmark = pytest.mark.slow

STATEMENTS = roles(list(TEMPLATES))
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/workers"
INSTANCE = f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/workers/0a1b2c"
STREAM = LOG_ARN.removesuffix("*") + "log-stream:worker/worker/1"


def test_iam_reference_and_roles_found() -> None:
    assert len(reference()) > 300
    assert {"fleet.InstanceRole", "worker.StartRole", "worker.WorkerRole"} < set(STATEMENTS)
    assert len(STATEMENTS) == 13


@pytest.mark.parametrize("role", STATEMENTS)
def test_statements_are_applicable(role: str) -> None:
    assert {fault for statement in STATEMENTS[role] for fault in faults(statement)} == set()


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            {
                "Action": "ecs:SubmitTaskStateChange",
                "Resource": CLUSTER,
                "Condition": {"ArnEquals": {"ecs:cluster": CLUSTER}},
            },
            "knows no ecs:cluster",
        ),
        ({"Action": "ecs:Poll", "Resource": "*"}, "could be bound to a container-instance"),
        ({"Action": "s3:GetObjects", "Resource": "*"}, "is no action"),
        ({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket"}, "never applies"),
        ({"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::bucket/*"}, "never applies"),
    ],
)
def test_faults_of_wrong_statement(statement: dict[str, Any], fault: str) -> None:
    assert any(fault in found for found in faults({"Effect": "Allow", **statement}))


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("ecs:DiscoverPollEndpoint", "*"),
        ("ecs:RegisterContainerInstance", CLUSTER),
        ("ecs:DeregisterContainerInstance", CLUSTER),
        ("ecs:Poll", INSTANCE),
        ("ecs:StartTelemetrySession", INSTANCE),
        ("ecs:UpdateContainerInstancesState", INSTANCE),
        ("ecs:SubmitTaskStateChange", CLUSTER),
        ("ecs:SubmitContainerStateChange", CLUSTER),
        ("ecs:SubmitAttachmentStateChanges", CLUSTER),
    ],
)
def test_instance_role_allows_ecs_agent(action: str, resource: str) -> None:
    """The calls of the ECS agent, from AWS's guide for the container instance role."""
    role = STATEMENTS["fleet.InstanceRole"]
    # Poll and StartTelemetrySession have the context key ecs:cluster, the Submit actions have none.
    context = {"ecs:cluster": CLUSTER} if resource == INSTANCE else {}
    assert is_allowed(Call(action, resource, context), role)
    other = resource.replace("workers", "others")
    assert resource == "*" or not is_allowed(Call(action, other, context), role)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchCheckLayerAvailability", PARAMETERS["RepositoryArn"]),
        ("ecr:GetDownloadUrlForLayer", PARAMETERS["RepositoryArn"]),
        ("ecr:BatchGetImage", PARAMETERS["RepositoryArn"]),
        ("logs:CreateLogStream", STREAM),
        ("logs:PutLogEvents", STREAM),
    ],
)
def test_start_role_allows_task_start(action: str, resource: str) -> None:
    """The calls of ECS to start a task, from AWS's managed policy for execution roles."""
    assert is_allowed(Call(action, resource, {}), STATEMENTS["worker.StartRole"])


@pytest.mark.parametrize("name", SCENARIOS)
async def test_role_allows_recorded_calls(name: str) -> None:
    recorder = Recorder()
    await SCENARIOS[name](FakeService(SETTINGS), recorder)
    role = STATEMENTS[".".join(ROLES[name])]
    assert recorder.calls
    assert {made for made in recorder.calls if not is_allowed(call_of(made), role)} == set()
    # S3 returns 404 for a missing object only if the caller may list the bucket, evaluated without a prefix.
    buckets = {made.target.split("/")[0] for made in recorder.missing_reads}
    missing = [Call("s3:ListBucket", f"arn:aws:s3:::{PARAMETERS[bucket]}", {}) for bucket in buckets]
    assert all(is_allowed(call, role) for call in missing)
    other = {made for made in recorder.calls if is_allowed(call_of(made, bucket="other-bucket"), role)}
    assert not any(made.action.startswith("s3:") for made in other)


def call_of(made: RecordedCall, *, bucket: str | None = None) -> Call:
    """Return a recorded call with full ARNs."""
    if made.action == "execute-api:ManageConnections":
        resource = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:a1b2c3/ws/{made.target}/@connections/XfGLwd8ZtjMCJHw="
        return Call(made.action, resource, {})
    if made.action.startswith("sqs:"):
        return Call(made.action, PARAMETERS[made.target], {})
    parameter, _, key = made.target.partition("/")
    arn = f"arn:aws:s3:::{bucket or PARAMETERS[parameter]}"
    if made.action in {"s3:ListBucket", "s3:ListBucketVersions"}:
        return Call(made.action, arn, {"s3:prefix": key})
    return Call(made.action, f"{arn}/{key}", {})


def test_is_allowed_denials_and_conditions() -> None:
    allow = filled("root", {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::b"})
    only = allow | {"Condition": {"StringLikeIfExists": {"s3:prefix": ["jobs/*"]}}}
    deny = allow | {"Effect": "Deny", "Condition": {"StringLike": {"s3:prefix": ["jobs/secret"]}}}
    asked = {
        prefix: Call("s3:ListBucket", "arn:aws:s3:::b", {"s3:prefix": prefix}) for prefix in ("jobs/1", "keys/1")
    }
    assert is_allowed(asked["jobs/1"], [only])
    assert not is_allowed(asked["keys/1"], [only])
    assert is_allowed(Call("s3:ListBucket", "arn:aws:s3:::b", {}), [only])  # for a missing object
    assert not is_allowed(Call("s3:ListBucket", "arn:aws:s3:::b", {"s3:prefix": "jobs/secret"}), [only, deny])
