"""The checks of an AWS account before the first deployment."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.operations import preflight
from infra.operations.stack import Stack
from tests.infra.operations.account import DEFAULTS, Account
from tests.infra.operations.deployed_account import DeployedAccount


def findings(account: Account, status: str = "", **parameters: str) -> dict[str, str]:
    """Return the findings of preflight with their advice."""
    found = preflight.run_checks(account, Stack("s", status, DEFAULTS | parameters, {}))
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


# after a deployment


def test_preflight_reserved_concurrency_of_stack() -> None:
    """The stack has reserved 700 of 1,000, which leaves 300 unreserved."""
    assert findings(Account(reserved=700), "UPDATE_COMPLETE", HttpConcurrency="700") == {}
    (what,) = findings(Account(reserved=700), "UPDATE_COMPLETE", HttpConcurrency="950")
    assert what.startswith("stop")


def test_preflight_log_role_of_stack() -> None:
    own = DeployedAccount(log_role="arn:aws:iam::1:role/role-of-stack")
    assert findings(own, "UPDATE_COMPLETE", WebSocketAccessLogs="make-role") == {}
    other = DeployedAccount(log_role="arn:aws:iam::1:role/other")
    (what,) = findings(other, "UPDATE_COMPLETE", WebSocketAccessLogs="make-role")
    assert what.startswith("stop")


def test_preflight_without_workers_needs_no_gpu() -> None:
    account = Account(vcpus=0.0, no_type="g6.xlarge", roles=["AWSServiceRoleForECS"])
    assert findings(account, Workers="off") == {}


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED"])
def test_preflight_names_failed_stack(status: str) -> None:
    ((what, advice),) = findings(Account(), status).items()
    assert what == f"stop Stack s: {status}"
    assert "make teardown STACK=s" in advice or "continue-update-rollback" in advice


def test_ecs_role_is_created_once() -> None:
    account = Account(roles=["AWSServiceRoleForECS"])
    preflight.make_ecs_role(account)
    preflight.make_ecs_role(Account())
    assert account.linked_roles == ["ecs.amazonaws.com"]
