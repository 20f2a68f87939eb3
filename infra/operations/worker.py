"""Deploys another image of the worker, with one worker running to verify it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.operations.environment import IMAGE_TAG, Refused
from infra.operations.stack import Stack, change_parameter

DIMENSION = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


def deploy_worker(clients: Any, stack: Stack, tag: str) -> None:
    """Deploy the image with this tag to the workers.

    ECS's circuit breaker judges by tasks that run, and an idle service has none: so one is started first, and
    nothing is scaled in until the deployment has ended.  If the new worker does not become healthy, CloudFormation
    rolls back.

    Raises
    ------
    Refused
        The image does not exist, the stack has no workers, or the new worker does not become healthy.
    """
    if stack.parameters.get("Workers") != "on":
        raise Refused(f"The stack {stack.name} has no workers of its own (Workers=off).")
    repository = stack.outputs["Repository"].split("/", 1)[1]
    _check_image(clients.ecr, repository, tag)
    service = stack.outputs.get("Service")
    if service is None:
        change_parameter(clients.cloudformation, stack, IMAGE_TAG, tag)
        return
    with _one_running(clients, stack.outputs["Cluster"], service):
        change_parameter(clients.cloudformation, stack, IMAGE_TAG, tag)


def _check_image(ecr: Any, repository: str, tag: str) -> None:
    try:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.ImageNotFoundException:
        raise Refused(
            f"The repository {repository} has no image {tag}; `make worker-image TAG={tag}` builds and pushes it."
        ) from None


@contextmanager
def _one_running(clients: Any, cluster: str, service: str) -> Iterator[None]:
    target = {**DIMENSION, "ResourceId": f"service/{cluster}/{service}"}
    clients.scaling.register_scalable_target(**target, SuspendedState={"DynamicScalingInSuspended": True})
    try:
        (described,) = clients.ecs.describe_services(cluster=cluster, services=[service])["services"]
        if described["desiredCount"] == 0:
            clients.ecs.update_service(cluster=cluster, service=service, desiredCount=1)
        yield
    finally:
        clients.scaling.register_scalable_target(**target, SuspendedState={"DynamicScalingInSuspended": False})
