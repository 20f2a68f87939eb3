"""The tests that share a running service are given to one worker of pytest-xdist."""

import os

import pytest


@pytest.mark.xdist_group("alone")
def test_pytest_xdist_knows_the_groups(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("run without pytest-xdist")
    assert request.node.nodeid.endswith("@alone")
