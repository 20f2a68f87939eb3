"""A deployed stack: its parameters and outputs, and updates of a single parameter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from infra.operations.environment import Refused

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
_NOTHING_TO_DO = "No updates are to be performed"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as CloudFormation describes it."""

    name: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]


def find_stack(cloudformation: Any, name: str) -> Stack | None:
    """Return a stack, or None if it does not exist."""
    try:
        described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise
    return Stack(
        name=name,
        status=described["StackStatus"],
        parameters={one["ParameterKey"]: one["ParameterValue"] for one in described.get("Parameters", [])},
        outputs={one["OutputKey"]: one["OutputValue"] for one in described.get("Outputs", [])},
    )


def get_stack(cloudformation: Any, name: str) -> Stack:
    """Return a stack.

    Raises
    ------
    Refused
        It does not exist, or an operation on it is in progress.
    """
    stack = find_stack(cloudformation, name)
    if stack is None:
        raise Refused(f"There is no stack {name} in this region; `make deploy` makes it.")
    if stack.status.endswith("_IN_PROGRESS"):
        raise Refused(f"The stack {name} is being changed ({stack.status}); wait for that to end.")
    return stack


def change_parameter(cloudformation: Any, stack: Stack, parameter: str, value: str) -> None:
    """Update a stack with one parameter changed; the template and all other parameters stay the same.

    Raises
    ------
    Refused
        The update failed, and CloudFormation has rolled it back.
    """
    kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in stack.parameters if name != parameter]
    try:
        cloudformation.update_stack(
            StackName=stack.name,
            UsePreviousTemplate=True,
            Parameters=[*kept, {"ParameterKey": parameter, "ParameterValue": value}],
            Capabilities=CAPABILITIES,
        )
    except ClientError as error:
        if _NOTHING_TO_DO in str(error):
            return
        raise
    try:
        cloudformation.get_waiter("stack_update_complete").wait(StackName=stack.name)
    except WaiterError as error:
        raise Refused(
            f"{parameter}={value} failed, and CloudFormation goes back to what was before: "
            f"{_first_failure(cloudformation, stack.name)}"
        ) from error


def _first_failure(cloudformation: Any, name: str) -> str:
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    failed = [one for one in events if one["ResourceStatus"].endswith("_FAILED") and "ResourceStatusReason" in one]
    return str(failed[-1]["ResourceStatusReason"]) if failed else "see the stack's events for why."
