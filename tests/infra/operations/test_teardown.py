"""The command that deletes a stack: with a running sweep, late deletions, and after a failure half-way."""

import pytest

from infra.operations import teardown
from infra.operations.environment import Refused
from infra.operations.stack import find_stack
from tests.infra.operations.deployed_account import VOICES, DeployedAccount


def tear_down(account: DeployedAccount) -> None:
    stack = find_stack(account, "s")
    assert stack is not None
    teardown.tear_down(account, stack)


def test_tear_down_deletes_stack() -> None:
    account = DeployedAccount()
    account.history = "[]"
    tear_down(account)
    assert account.status is None
    assert account.objects == []
    assert account.history is None


def test_tear_down_waits_for_running_sweep() -> None:
    account = DeployedAccount()
    account.sleep(90)  # a run began 30 seconds ago and has not written yet
    tear_down(account)
    assert account.rule == "DISABLED"
    assert account.deletion_failures == []


def test_tear_down_empties_bucket_again() -> None:
    account = DeployedAccount()
    account.late_writes = 2
    tear_down(account)
    assert account.status is None
    assert account.log.count("delete") == 3


def test_tear_down_waits_for_instances() -> None:
    account = DeployedAccount(image="v1")
    account.desired = 2
    account.sleep(120)
    tear_down(account)
    assert account.deletion_failures == []
    assert account.log[:4] == ["scaling suspended", "desired 0", "stop task of v1", "stop task of v1"]


def test_tear_down_unprotects_launching_instance() -> None:
    account = DeployedAccount(image="v1")
    account.desired = 1
    account.sleep(20)
    assert account.instances["i-0"] > account.now
    tear_down(account)
    assert account.deletion_failures == []


@pytest.mark.parametrize("status", ["ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "DELETE_FAILED", "REVIEW_IN_PROGRESS"])
def test_tear_down_without_outputs(status: str) -> None:
    account = DeployedAccount(status)
    tear_down(account)
    assert account.status is None


@pytest.mark.parametrize("missing", ["rule", "service", "cluster", "group", "bucket"])
def test_tear_down_missing_resource(missing: str) -> None:
    account = DeployedAccount("DELETE_FAILED", image="v1")
    account.missing.add(missing)
    if missing == "bucket":
        account.objects = []
    tear_down(account)
    assert account.status is None


def test_tear_down_continues_deletion() -> None:
    account = DeployedAccount("DELETE_IN_PROGRESS")
    account.objects = []
    tear_down(account)
    assert account.status is None
    assert account.log == []


def test_tear_down_during_update_refused() -> None:
    account = DeployedAccount("UPDATE_IN_PROGRESS")
    with pytest.raises(Refused, match="being changed"):
        tear_down(account)
    assert account.rule == "ENABLED"


def test_tear_down_reports_nested_failure() -> None:
    account = DeployedAccount(stuck=True)
    account.history = "[]"
    with pytest.raises(Refused, match="Ephemeral: stuck"):
        tear_down(account)
    assert account.history == "[]"


def test_voices_bucket_is_found_by_stack() -> None:
    account = DeployedAccount("ROLLBACK_FAILED")
    stack = find_stack(account, "s")
    assert stack is not None
    assert teardown.voices_bucket(account, stack) == VOICES
