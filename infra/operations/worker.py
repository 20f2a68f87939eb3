"""Deploys another image of the worker, with one worker running to verify it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.operations.environment import IMAGE_TAG, Refused
from infra.operations.image import has_tag
from infra.operations.resources import first_failure
from infra.operations.stack import (
    LONGEST_ROLLBACK_SECONDS,
    LONGEST_UPDATE_SECONDS,
    Stack,
    cancel_update,
    change_parameter,
    wait_while_changing,
)

DIMENSION = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


def deploy_worker(clients: Any, stack: Stack, tag: str) -> None:
    """Deploy the image with this tag to the workers; do nothing if they have it.

    ECS's circuit breaker judges by tasks that run, and an idle service has none: so one is started first, and
    nothing is scaled in until the deployment has ended.  If the new worker does not become healthy in half an hour,
    the update is cancelled, and CloudFormation restores the previous image.

    Raises
    ------
    Refused
        The image does not exist, the stack has no workers, or the new worker does not become healthy.
    """
    if stack.parameters.get("Workers") != "on":
        raise Refused(f"The stack {stack.name} has no workers of its own (Workers=off).")
    repository = stack.outputs["Repository"].split("/", 1)[1]
    if not has_tag(clients.ecr, repository, tag):
        raise Refused(
            f"The repository {repository} has no image {tag}; `make worker-image TAG={tag}` builds and pushes it."
        )
    if stack.parameters[IMAGE_TAG] == tag:
        return
    service = stack.outputs.get("Service")
    if service is None:
        _change_image(clients, stack, tag)
        return
    cluster = stack.outputs["Cluster"]
    with _one_running(clients, cluster, service):
        _change_image(clients, stack, tag)
        if _service(clients, cluster, service)["runningCount"] < 1:
            raise Refused(
                f"The image {tag} is deployed, but no worker has run it: the service was stopped during the "
                f"deployment. Deploy it again, or go back with `make rollback`."
            )


def _change_image(clients: Any, stack: Stack, tag: str) -> None:
    try:
        change_parameter(clients, stack, IMAGE_TAG, tag)
    except TimeoutError:
        _give_up(clients, stack, tag)


def _give_up(clients: Any, stack: Stack, tag: str) -> None:
    """Cancel an update whose worker does not become healthy, and wait for the previous version."""
    cancel_update(clients, stack.name)
    service = stack.outputs.get("Service")
    if service:
        # Without capacity, the previous version could not start either, and the rollback would wait.  Not set
        # earlier: an update with no desired worker would count as complete, with an image that never ran.
        clients.ecs.update_service(cluster=stack.outputs["Cluster"], service=service, desiredCount=0)
    now = wait_while_changing(clients, stack.name, LONGEST_ROLLBACK_SECONDS)
    if now and now.parameters.get(IMAGE_TAG) == tag and now.status == "UPDATE_COMPLETE":
        return
    raise Refused(
        f"No worker with the image {tag} became healthy within {LONGEST_UPDATE_SECONDS // 60} minutes. The update "
        f"was cancelled ({now.status if now else 'no stack'}). {_reason(clients, stack)}"
    )


def _reason(clients: Any, stack: Stack) -> str:
    """Return why EC2 started no instance, if it refused one; else the reason of CloudFormation."""
    group = stack.outputs["InstanceGroup"]
    activities = clients.autoscaling.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=1)
    for activity in activities["Activities"]:
        if activity["StatusCode"] == "Failed":
            return f"EC2 started no instance: {activity['StatusMessage']}"
    return first_failure(clients.cloudformation, stack.name)


def _service(clients: Any, cluster: str, service: str) -> Any:
    (described,) = clients.ecs.describe_services(cluster=cluster, services=[service])["services"]
    return described


@contextmanager
def _one_running(clients: Any, cluster: str, service: str) -> Iterator[None]:
    target = {**DIMENSION, "ResourceId": f"service/{cluster}/{service}"}
    clients.scaling.register_scalable_target(**target, SuspendedState={"DynamicScalingInSuspended": True})
    try:
        if _service(clients, cluster, service)["desiredCount"] == 0:
            clients.ecs.update_service(cluster=cluster, service=service, desiredCount=1)
        yield
    finally:
        clients.scaling.register_scalable_target(**target, SuspendedState={"DynamicScalingInSuspended": False})
