"""Every role's statements against AWS's reference of actions, resources and condition keys, and the calls made."""

from typing import Any

import pytest

from tests.infra.iam import ACCOUNT, GIVEN, LOG_ARN, REGION, Call, faults, filled, is_allowed, reference, roles
from tests.infra.templates import TEMPLATES
from tests.infra.test_policies import ROLES, WAYS
from tests.infra.watched import Deed, Watch
from tests.support.fake_service import FakeService
from tests.unit.functions.access.test_authorization import SETTINGS

# The reference comes with checkov, whose environment is made for the second tier.
pytestmark = pytest.mark.slow

STATEMENTS = roles(list(TEMPLATES))
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/workers"
INSTANCE = f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/workers/0a1b2c"
STREAM = LOG_ARN.removesuffix("*") + "log-stream:worker/worker/1"


def test_iam_reference_and_roles_found() -> None:
    assert len(reference()) > 300
    assert {"fleet.InstanceRole", "worker.StartRole", "worker.WorkerRole"} < set(STATEMENTS)
    assert len(STATEMENTS) == 12


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
    """The calls of the ECS agent, as AWS's guide for the container instance role lists them."""
    role = STATEMENTS["fleet.InstanceRole"]
    # Poll and StartTelemetrySession bring ecs:cluster; the Submit actions bring no context of ECS's.
    context = {"ecs:cluster": CLUSTER} if resource == INSTANCE else {}
    assert is_allowed(Call(action, resource, context), role)
    other = resource.replace("workers", "others")
    assert resource == "*" or not is_allowed(Call(action, other, context), role)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchCheckLayerAvailability", GIVEN["RepositoryArn"]),
        ("ecr:GetDownloadUrlForLayer", GIVEN["RepositoryArn"]),
        ("ecr:BatchGetImage", GIVEN["RepositoryArn"]),
        ("logs:CreateLogStream", STREAM),
        ("logs:PutLogEvents", STREAM),
    ],
)
def test_start_role_allows_task_start(action: str, resource: str) -> None:
    """The calls that ECS makes to start a task, as AWS's managed policy for execution roles lists them."""
    assert is_allowed(Call(action, resource, {}), STATEMENTS["worker.StartRole"])


@pytest.mark.parametrize("name", WAYS)
async def test_role_allows_recorded_calls(name: str) -> None:
    watch = Watch()
    await WAYS[name](FakeService(SETTINGS), watch)
    role = STATEMENTS[".".join(ROLES[name])]
    assert watch.deeds
    assert {deed for deed in watch.deeds if not is_allowed(call_of(deed), role)} == set()
    # Whether somebody is told that an object is missing, S3 decides by leave to list, and asks with no prefix.
    buckets = {deed.target.split("/")[0] for deed in watch.absences}
    missing = [Call("s3:ListBucket", f"arn:aws:s3:::{GIVEN[bucket]}", {}) for bucket in buckets]
    assert all(is_allowed(call, role) for call in missing)
    elsewhere = {deed for deed in watch.deeds if is_allowed(call_of(deed, bucket="somebody-elses"), role)}
    assert not any(deed.action.startswith("s3:") for deed in elsewhere)


def call_of(deed: Deed, *, bucket: str | None = None) -> Call:
    """Repeat a recorded call."""
    if deed.action == "execute-api:ManageConnections":
        resource = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:a1b2c3/ws/{deed.target}/@connections/XfGLwd8ZtjMCJHw="
        return Call(deed.action, resource, {})
    if deed.action.startswith("sqs:"):
        return Call(deed.action, GIVEN[deed.target], {})
    parameter, _, key = deed.target.partition("/")
    arn = f"arn:aws:s3:::{bucket or GIVEN[parameter]}"
    if deed.action == "s3:ListBucket":
        return Call(deed.action, arn, {"s3:prefix": key})
    return Call(deed.action, f"{arn}/{key}", {})


def test_is_allowed_denials_and_conditions() -> None:
    allow = filled("root", {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::b"})
    only = allow | {"Condition": {"StringLikeIfExists": {"s3:prefix": ["jobs/*"]}}}
    deny = allow | {"Effect": "Deny", "Condition": {"StringLike": {"s3:prefix": ["jobs/secret"]}}}
    asked = {
        prefix: Call("s3:ListBucket", "arn:aws:s3:::b", {"s3:prefix": prefix}) for prefix in ("jobs/1", "keys/1")
    }
    assert is_allowed(asked["jobs/1"], [only])
    assert not is_allowed(asked["keys/1"], [only])
    assert is_allowed(Call("s3:ListBucket", "arn:aws:s3:::b", {}), [only])  # as S3 asks when an object is missing
    assert not is_allowed(Call("s3:ListBucket", "arn:aws:s3:::b", {"s3:prefix": "jobs/secret"}), [only, deny])
