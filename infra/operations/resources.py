"""The resources of a stack and the reason why its last change failed, both with those of the nested stacks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NESTED = "AWS::CloudFormation::Stack"
_DELETED = {"DELETE_COMPLETE", "DELETE_SKIPPED"}
_STARTS = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that CloudFormation has created and not deleted."""

    kind: str
    """Such as `AWS::S3::Bucket`."""
    name: str
    """The name in the template."""
    id: str
    """The physical id: a name or an ARN."""


def list_resources(cloudformation: Any, stack: str) -> Iterator[Resource]:
    """Yield the resources of a stack (name or id) and its nested stacks."""
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for one in page["StackResourceSummaries"]:
            id_ = one.get("PhysicalResourceId")
            if not id_ or one["ResourceStatus"] in _DELETED:
                continue
            if one["ResourceType"] == NESTED:
                yield from list_resources(cloudformation, id_)
            else:
                yield Resource(one["ResourceType"], one["LogicalResourceId"], id_)


def first_failure(cloudformation: Any, stack: str) -> str:
    """Return the reason of the first failure of a stack's last change."""
    failed = [event for event in _last_change(cloudformation, stack) if _is_cause(event)]
    if not failed:
        return "See the stack's events for the reason."
    first, reason = failed[-1], f"{failed[-1]['LogicalResourceId']}: {failed[-1]['ResourceStatusReason']}"
    if first["ResourceType"] != NESTED or _is_own(first):
        return reason
    inner = [event for event in _last_change(cloudformation, first["PhysicalResourceId"]) if _is_cause(event)]
    return first_failure(cloudformation, first["PhysicalResourceId"]) if inner else reason


def _last_change(cloudformation: Any, stack: str) -> Iterator[Mapping[str, Any]]:
    """Yield the events since the start of the last change, the latest first."""
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack):
        for event in page["StackEvents"]:
            yield event
            if _is_own(event) and event["ResourceStatus"] in _STARTS:
                return


def _is_cause(event: Mapping[str, Any]) -> bool:
    """Return whether a resource failed, and not because another one had failed."""
    reason = event.get("ResourceStatusReason", "")
    return event["ResourceStatus"].endswith("_FAILED") and bool(reason) and "cancelled" not in reason


def _is_own(event: Mapping[str, Any]) -> bool:
    return bool(event.get("PhysicalResourceId") == event["StackId"])
