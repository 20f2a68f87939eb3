"""An AWS account without any stack: the responses that preflight uses."""

from typing import Any

from botocore.exceptions import ClientError

from tests.infra.cloudformation import template

DEFAULTS = {name: str(one["Default"]) for name, one in template("root")["Parameters"].items()}


class exceptions:  # noqa: N801 - as boto3 has them
    class NoSuchEntityException(Exception):
        pass

    class ImageNotFoundException(Exception):
        pass

    class ParameterNotFound(Exception):
        pass

    class ResourceNotFoundException(Exception):
        pass


def error(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class Account:
    """The quotas, roles and settings of an account.  By default all checks pass."""

    exceptions = exceptions

    def __init__(self, **wrong: Any) -> None:
        self.wrong = wrong
        self.quotas = self.functions = self.ec2 = self.iam = self.gateway = self
        self.linked_roles: list[str] = []

    def get_service_quota(self, **_: Any) -> dict[str, Any]:
        return {
            "Quota": {"QuotaName": "Running On-Demand G and VT instances", "Value": self.wrong.get("vcpus", 64.0)}
        }

    def get_account_settings(self) -> dict[str, Any]:
        count, reserved = self.wrong.get("functions", 1000), self.wrong.get("reserved", 0)
        return {"AccountLimit": {"ConcurrentExecutions": count, "UnreservedConcurrentExecutions": count - reserved}}

    def get_function_concurrency(self, *, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        if "reserved" not in self.wrong:
            raise exceptions.ResourceNotFoundException(FunctionName)
        return {"ReservedConcurrentExecutions": self.wrong["reserved"]}

    def get_paginator(self, name: str) -> Any:
        assert name == "describe_instance_type_offerings"
        return Pages(self._offerings)

    def _offerings(self, *, Filters: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        zones = self.wrong.get("zones", ["x-1a", "x-1b", "x-1c"])
        offered = [{"InstanceType": type_, "Location": zone} for type_ in Filters[0]["Values"] for zone in zones]
        return {
            "InstanceTypeOfferings": [one for one in offered if one["InstanceType"] != self.wrong.get("no_type")]
        }

    def describe_availability_zones(self, **_: Any) -> dict[str, Any]:
        return {"AvailabilityZones": [{"ZoneName": f"x-1{letter}"} for letter in "abcd"]}

    def get_role(self, *, RoleName: str) -> None:  # noqa: N803
        if RoleName in self.wrong.get("roles", ()):
            raise exceptions.NoSuchEntityException

    def create_service_linked_role(self, *, AWSServiceName: str) -> None:  # noqa: N803
        self.linked_roles.append(AWSServiceName)

    def get_account(self) -> dict[str, Any]:
        return {"cloudwatchRoleArn": self.wrong["log_role"]} if "log_role" in self.wrong else {}


class Pages:
    """A paginator with one page."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def paginate(self, **request: Any) -> list[Any]:
        return [self._page(**request)]
