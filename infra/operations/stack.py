"""A deployed stack: its parameters and outputs, and updates of a single parameter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.operations.environment import Refused
from infra.operations.resources import first_failure

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
_NOTHING_TO_DO = "No updates are to be performed"
LOOK_SECONDS = 10
LONGEST_UPDATE_SECONDS = 1800
LONGEST_ROLLBACK_SECONDS = 3600
# The first deployment failed, or the last deletion.  CloudFormation accepts no update.
_ONLY_DELETABLE = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"}
# A change set of a new stack that was not executed.
_ONLY_REVIEWED = "REVIEW_IN_PROGRESS"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as CloudFormation describes it."""

    name: str
    status: str
    """Empty if the stack does not exist yet."""
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def obstacle(self) -> str | None:
        """Return why CloudFormation can't update the stack, with the remedy; None if it can."""
        if self.status in _ONLY_DELETABLE:
            return f"The stack {self.name} is in {self.status}. `make teardown STACK={self.name}` removes it first."
        if self.status == "UPDATE_ROLLBACK_FAILED":
            resume = f"aws cloudformation continue-update-rollback --stack-name {self.name}"
            return f"The stack {self.name} is in {self.status}. Resolve the cause in its events, then run: {resume}"
        if self.status.endswith("_IN_PROGRESS") and self.status != _ONLY_REVIEWED:
            return f"The stack {self.name} is being changed ({self.status}). Wait until that has ended."
        return None


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
    """Return a stack that can be updated.

    Raises
    ------
    Refused
        It does not exist, an operation on it is in progress, or its first deployment failed.
    """
    stack = find_stack(cloudformation, name)
    if stack is None or stack.status == _ONLY_REVIEWED:
        raise Refused(f"There is no stack {name} in this region; `make deploy` makes it.")
    if stack.obstacle:
        raise Refused(stack.obstacle)
    return stack


def wait_while_changing(clients: Any, name: str, longest_seconds: float, status: str = "") -> Stack | None:
    """Wait until a change has ended, or the status differs from `status`; return the stack, None if it is gone.

    The change may still be in progress after `longest_seconds`.
    """
    waited = 0.0
    while True:
        stack = find_stack(clients.cloudformation, name)
        is_changing = stack is not None and stack.status.endswith("_IN_PROGRESS")
        if not is_changing or (status and stack and stack.status != status) or waited >= longest_seconds:
            return stack
        clients.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS


def change_parameter(clients: Any, stack: Stack, parameter: str, value: str) -> None:
    """Update a stack with one parameter changed; the template and all other parameters stay the same.

    Raises
    ------
    Refused
        The update failed, and CloudFormation has rolled it back.
    TimeoutError
        The update is still in progress after half an hour.
    """
    kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in stack.parameters if name != parameter]
    try:
        clients.cloudformation.update_stack(
            StackName=stack.name,
            UsePreviousTemplate=True,
            Parameters=[*kept, {"ParameterKey": parameter, "ParameterValue": value}],
            Capabilities=CAPABILITIES,
        )
    except ClientError as error:
        if _NOTHING_TO_DO in str(error):
            return
        raise
    now = wait_while_changing(clients, stack.name, LONGEST_UPDATE_SECONDS)
    if now and now.status == "UPDATE_IN_PROGRESS":
        raise TimeoutError
    now = wait_while_changing(clients, stack.name, LONGEST_ROLLBACK_SECONDS)
    if now is None or now.status != "UPDATE_COMPLETE":
        reason = first_failure(clients.cloudformation, stack.name)
        raise Refused(f"{parameter}={value} failed ({now.status if now else 'no stack'}). {reason}")


def cancel_update(clients: Any, name: str) -> None:
    """Cancel the update in progress, and wait until CloudFormation has started to roll back.

    Does nothing if the update has just ended.
    """
    try:
        clients.cloudformation.cancel_update_stack(StackName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
    wait_while_changing(clients, name, LONGEST_ROLLBACK_SECONDS, status="UPDATE_IN_PROGRESS")
