"""The checks of an AWS account before the first deployment."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.operations import preflight
from tests.infra.operations.account import DEFAULTS


class Account:
    """The responses of an AWS account to preflight.  By default all checks pass."""

    def __init__(self, **wrong: Any) -> None:
        self.wrong = wrong
        self.quotas = self.functions = self.ec2 = self.iam = self.gateway = self

    class exceptions:  # noqa: N801 - as boto3 has them
        class NoSuchEntityException(Exception):
            pass

    def get_service_quota(self, **_: Any) -> dict[str, Any]:
        return {
            "Quota": {"QuotaName": "Running On-Demand G and VT instances", "Value": self.wrong.get("vcpus", 64.0)}
        }

    def get_account_settings(self) -> dict[str, Any]:
        count = self.wrong.get("functions", 1000)
        return {"AccountLimit": {"ConcurrentExecutions": count, "UnreservedConcurrentExecutions": count}}

    def get_paginator(self, _name: str) -> "Account":
        return self

    def paginate(self, *, Filters: list[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:  # noqa: N803
        zones = self.wrong.get("zones", ["x-1a", "x-1b", "x-1c"])
        offered = [{"InstanceType": type_, "Location": zone} for type_ in Filters[0]["Values"] for zone in zones]
        return [
            {"InstanceTypeOfferings": [one for one in offered if one["InstanceType"] != self.wrong.get("no_type")]}
        ]

    def describe_availability_zones(self, **_: Any) -> dict[str, Any]:
        return {"AvailabilityZones": [{"ZoneName": f"x-1{letter}"} for letter in "abcd"]}

    def get_role(self, *, RoleName: str) -> None:  # noqa: N803
        if RoleName in self.wrong.get("roles", ()):
            raise self.exceptions.NoSuchEntityException

    def get_account(self) -> dict[str, Any]:
        return {"cloudwatchRoleArn": self.wrong["log_role"]} if "log_role" in self.wrong else {}


def findings(account: Account, **parameters: str) -> dict[str, str]:
    """Return the findings of preflight with their advice."""
    found = preflight.run_checks(account, DEFAULTS | parameters)
    return {
        one.verdict + " " + one.what: one.advice
        for one in found
        if one.verdict != "ok" and "Docker" not in one.what
    }


@pytest.fixture(autouse=True)
def python_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_python", lambda: "/the/python")


def test_preflight_without_findings() -> None:
    assert findings(Account()) == {}


@pytest.mark.parametrize(
    ("wrong", "parameters", "verdict", "advice"),
    [
        ({"vcpus": 0.0}, {}, "stop", "request-service-quota-increase"),
        ({"vcpus": 8.0}, {}, "look", "--desired-value 16"),
        ({"functions": 10}, {}, "look", "--service-code lambda"),
        ({"functions": 500}, {"HttpConcurrency": "450"}, "stop", "Lower it"),
        ({"zones": ["x-1b", "x-1d"]}, {}, "look", "Zones=x-1b,x-1d,x-1a"),
        ({"zones": ["x-1d"]}, {}, "stop", "Zones=x-1d,x-1a,x-1b"),
        ({"no_type": "g5.2xlarge"}, {}, "stop", "Name another"),
        ({"roles": ["AWSServiceRoleForECS"]}, {}, "look", "create-service-linked-role --aws-service-name ecs"),
        ({"roles": ["AWSServiceRoleForEC2Spot"]}, {"Spot": "on"}, "look", "spot.amazonaws.com"),
        ({}, {"WebSocketAccessLogs": "on"}, "stop", "make-role"),
        ({"log_role": "arn:x"}, {"WebSocketAccessLogs": "make-role"}, "stop", "set on instead"),
    ],
)
def test_preflight_finding_has_advice(
    wrong: dict[str, Any], parameters: dict[str, str], verdict: str, advice: str
) -> None:
    ((what, given_advice),) = findings(Account(**wrong), **parameters).items()
    assert what.startswith(verdict)
    assert advice in given_advice


def test_preflight_access_denied_continues() -> None:
    class Forbidding(Account):
        def get_account_settings(self) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "GetAccountSettings")

    (what,) = findings(Forbidding())
    assert what == "look function concurrency: not looked at (AccessDenied)"


def test_preflight_checks_given_zones() -> None:
    assert findings(Account(zones=["x-1b", "x-1c", "x-1d"]), Zones="x-1b,x-1c,x-1d") == {}
