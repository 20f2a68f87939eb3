"""The AWS account of the tests of the operator commands."""

from collections.abc import Iterator

import pytest
from moto import mock_aws

from infra.operations.clients import Clients

REGION = "us-east-1"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        made = Clients(REGION)
        # moto does not implement it.
        monkeypatch.setattr(made.cloudformation, "update_termination_protection", lambda **_: None)
        yield made


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
