"""Deletes a stack, and the resources that would prevent its deletion. Voices and keys are retained."""

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import WaiterError

from infra.operations.environment import Refused
from infra.operations.history import forget_history
from infra.operations.stack import Stack
from infra.operations.worker import DIMENSION

AT_ONCE = 1000
LOOK_SECONDS = 10
LONGEST_WAIT_SECONDS = 900


def tear_down(clients: Any, stack: Stack, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Stop the workers, empty the bucket of temporary objects, and delete the stack.

    Raises
    ------
    Refused
        A worker does not stop, or CloudFormation could not delete everything; another call continues.
    """
    cluster, service = stack.outputs.get("Cluster"), stack.outputs.get("Service")
    if cluster and service:
        _stop_workers(clients, cluster, service, sleep)
    group = stack.outputs.get("InstanceGroup")
    if group:
        _unprotect_instances(clients.autoscaling, group)
    _empty_bucket(clients.s3, stack.outputs["EphemeralBucket"])
    clients.cloudformation.update_termination_protection(EnableTerminationProtection=False, StackName=stack.name)
    clients.cloudformation.delete_stack(StackName=stack.name)
    try:
        clients.cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack.name)
    except WaiterError as error:
        raise Refused(
            f"Not everything of {stack.name} could be deleted; see its events for what, then try again."
        ) from error
    forget_history(clients.ssm, stack.name)


def _stop_workers(clients: Any, cluster: str, service: str, sleep: Callable[[float], None]) -> None:
    """Stop them even if protected; their jobs return to the queue, which is deleted as well."""
    suspended = dict.fromkeys(
        ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended"), True
    )
    target = {**DIMENSION, "ResourceId": f"service/{cluster}/{service}"}
    clients.scaling.register_scalable_target(**target, MinCapacity=0, SuspendedState=suspended)
    clients.ecs.update_service(cluster=cluster, service=service, desiredCount=0)
    waited = 0
    while tasks := clients.ecs.list_tasks(cluster=cluster)["taskArns"]:
        for task in tasks:
            clients.ecs.stop_task(cluster=cluster, task=task, reason="the stack is torn down")
        if waited >= LONGEST_WAIT_SECONDS:
            raise Refused(f"Workers still run after {waited} seconds: {', '.join(tasks)}.")
        sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS


def _unprotect_instances(autoscaling: Any, group: str) -> None:
    """Remove the scale-in protection set by ECS: the group can't be deleted while it has protected instances."""
    (described,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    instances = [one["InstanceId"] for one in described["Instances"]]
    if instances:
        autoscaling.set_instance_protection(
            AutoScalingGroupName=group, InstanceIds=instances, ProtectedFromScaleIn=False
        )


def _empty_bucket(s3: Any, bucket: str) -> None:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": AT_ONCE}):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
