"""The AWS clients of an operator, each created on first use, and the pause between two looks at AWS."""

import time
from functools import cached_property
from typing import Any

import boto3


class Clients:
    """Clients for one region, with the operator's own credentials."""

    def __init__(self, region: str) -> None:
        self._session = boto3.session.Session(region_name=region)

    def sleep(self, seconds: float) -> None:
        """Wait for AWS."""
        time.sleep(seconds)

    @cached_property
    def cloudformation(self) -> Any:
        """Stacks."""
        return self._session.client("cloudformation")

    @cached_property
    def ecs(self) -> Any:
        """Services and tasks."""
        return self._session.client("ecs")

    @cached_property
    def ecr(self) -> Any:
        """Images."""
        return self._session.client("ecr")

    @cached_property
    def scaling(self) -> Any:
        """Application Auto Scaling: the number of tasks of a service."""
        return self._session.client("application-autoscaling")

    @cached_property
    def autoscaling(self) -> Any:
        """Auto Scaling groups of instances."""
        return self._session.client("autoscaling")

    @cached_property
    def events(self) -> Any:
        """EventBridge: the schedule of the sweep."""
        return self._session.client("events")

    @cached_property
    def s3(self) -> Any:
        """Buckets."""
        return self._session.client("s3")

    @cached_property
    def ssm(self) -> Any:
        """The history of deployments."""
        return self._session.client("ssm")

    @cached_property
    def quotas(self) -> Any:
        """Service quotas of the account."""
        return self._session.client("service-quotas")

    @cached_property
    def functions(self) -> Any:
        """Lambda."""
        return self._session.client("lambda")

    @cached_property
    def ec2(self) -> Any:
        """Instance types and zones."""
        return self._session.client("ec2")

    @cached_property
    def iam(self) -> Any:
        """Roles."""
        return self._session.client("iam")

    @cached_property
    def gateway(self) -> Any:
        """API Gateway's settings of the account."""
        return self._session.client("apigateway")
