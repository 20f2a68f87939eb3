"""Deletes a stack, and the resources that would prevent its deletion. Voices and keys are retained.

Every step treats a missing resource as done, so that an interrupted deletion can be continued.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from infra.operations.environment import Refused
from infra.operations.history import forget_history
from infra.operations.resources import Resource, first_failure, list_resources
from infra.operations.stack import LOOK_SECONDS, Stack, wait_while_changing
from infra.operations.worker import DIMENSION

LONGEST_WAIT_SECONDS = 900
LONGEST_DELETION_SECONDS = 3600
SWEEP_SECONDS = 60  # longer than the timeout of the sweep
ATTEMPTS = 3
INSTANCES_AT_ONCE = 50  # the limit of SetInstanceProtection
_MISSING = {
    "ClusterNotFoundException",
    "NoSuchBucket",
    "ResourceNotFoundException",
    "ServiceNotActiveException",
    "ServiceNotFoundException",
}


def tear_down(clients: Any, stack: Stack) -> None:
    """Stop what writes, empty the bucket of temporary objects, and delete the stack.

    Raises
    ------
    Refused
        A worker or an instance does not stop, or CloudFormation could not delete everything.  Another call
        continues.
    """
    if stack.status != "DELETE_IN_PROGRESS":
        if stack.status.endswith("_IN_PROGRESS") and stack.obstacle:
            raise Refused(stack.obstacle)
        _stop(clients, list(list_resources(clients.cloudformation, stack.name)))
        clients.cloudformation.update_termination_protection(
            EnableTerminationProtection=False, StackName=stack.name
        )
    _delete(clients, stack)
    forget_history(clients.ssm, stack.name)


def voices_bucket(clients: Any, stack: Stack) -> str | None:
    """Return the bucket that is retained; None if the stack has none."""
    kept = [one.id for one in list_resources(clients.cloudformation, stack.name) if _is_bucket(one, "Voices")]
    return next(iter(kept), stack.parameters.get("KeptVoicesBucket") or None)


def _stop(clients: Any, resources: list[Resource]) -> None:
    ids = {
        kind: [one.id for one in resources if one.kind == f"AWS::{kind}"]
        for kind in ("Events::Rule", "ECS::Service", "ECS::Cluster", "AutoScaling::AutoScalingGroup")
    }
    _stop_sweep(clients, ids["Events::Rule"])
    for service in ids["ECS::Service"]:
        _stop_service(clients, *service.split("/")[-2:])
    for cluster in ids["ECS::Cluster"]:
        _stop_tasks(clients, cluster)
    for group in ids["AutoScaling::AutoScalingGroup"]:
        _end_instances(clients, group)


def _delete(clients: Any, stack: Stack) -> None:
    """Delete the stack; empty the bucket again if something has been written in the meantime."""
    resources = list(list_resources(clients.cloudformation, stack.name))
    buckets = [one.id for one in resources if _is_bucket(one, "Ephemeral")]
    now: Stack | None = stack
    for _ in range(ATTEMPTS):
        if not now or now.status != "DELETE_IN_PROGRESS":
            for bucket in buckets:
                _empty_bucket(clients.s3, bucket)
            clients.cloudformation.delete_stack(StackName=stack.name)
        now = wait_while_changing(clients, stack.name, LONGEST_DELETION_SECONDS)
        if now is None:
            return
    reason = first_failure(clients.cloudformation, stack.name)
    raise Refused(f"Not everything of {stack.name} could be deleted. {reason} Run the command again to continue.")


def _is_bucket(resource: Resource, name: str) -> bool:
    return (resource.kind, resource.name) == ("AWS::S3::Bucket", name)


@contextmanager
def _missing_is_done() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in _MISSING:
            raise


def _stop_sweep(clients: Any, rules: list[str]) -> None:
    """Disable the schedule of the sweep, which writes into the bucket, and wait for a run in progress."""
    was_enabled = False
    for rule in rules:
        with _missing_is_done():
            was_enabled |= clients.events.describe_rule(Name=rule)["State"] == "ENABLED"
            clients.events.disable_rule(Name=rule)
    if was_enabled:
        clients.sleep(SWEEP_SECONDS)


def _stop_service(clients: Any, cluster: str, service: str) -> None:
    target = {**DIMENSION, "ResourceId": f"service/{cluster}/{service}"}
    found = clients.scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[target["ResourceId"]])
    if found["ScalableTargets"]:
        suspended = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
        state = dict.fromkeys(suspended, True)
        clients.scaling.register_scalable_target(**target, MinCapacity=0, SuspendedState=state)
    with _missing_is_done():
        clients.ecs.update_service(cluster=cluster, service=service, desiredCount=0)


def _stop_tasks(clients: Any, cluster: str) -> None:
    """Stop the workers even if protected; their jobs return to the queue, which is deleted as well."""
    with _missing_is_done():
        for _ in _looks():
            tasks = clients.ecs.list_tasks(cluster=cluster)["taskArns"]
            if not tasks:
                return
            for task in tasks:
                clients.ecs.stop_task(cluster=cluster, task=task, reason="the stack is torn down")
            clients.sleep(LOOK_SECONDS)
        raise Refused(f"Workers still run after {LONGEST_WAIT_SECONDS} seconds: {', '.join(tasks)}.")


def _end_instances(clients: Any, group: str) -> None:
    """Set the group to zero, and wait.

    Managed draining is a lifecycle hook that ECS completes.  It would hold an instance for up to 48 hours if the
    cluster were deleted first.  Instances are protected by ECS, also those that have just started.
    """
    instances: list[str] = []
    for look in _looks():
        found = clients.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
        if look == 0 and found:
            sizes = {"MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0}
            clients.autoscaling.update_auto_scaling_group(AutoScalingGroupName=group, **sizes)
        described = [instance for one in found for instance in one["Instances"]]
        instances = [one["InstanceId"] for one in described]
        if not instances:
            return
        protected = [
            one["InstanceId"]
            for one in described
            if one["LifecycleState"] == "InService" and one["ProtectedFromScaleIn"]
        ]
        _unprotect(clients.autoscaling, group, protected)
        clients.sleep(LOOK_SECONDS)
    raise Refused(f"Instances still run after {LONGEST_WAIT_SECONDS} seconds: {', '.join(instances)}.")


def _unprotect(autoscaling: Any, group: str, instances: list[str]) -> None:
    for start in range(0, len(instances), INSTANCES_AT_ONCE):
        autoscaling.set_instance_protection(
            AutoScalingGroupName=group,
            InstanceIds=instances[start : start + INSTANCES_AT_ONCE],
            ProtectedFromScaleIn=False,
        )


def _looks() -> range:
    return range(LONGEST_WAIT_SECONDS // LOOK_SECONDS)


def _empty_bucket(s3: Any, bucket: str) -> None:
    with _missing_is_done():
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if keys:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
