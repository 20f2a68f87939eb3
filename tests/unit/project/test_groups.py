"""The tests that share a running service are given to one worker of pytest-xdist."""

import os

import pytest


@pytest.mark.xdist_group("alone")
def test_xdist_group_is_applied(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("run without pytest-xdist")
    assert request.node.nodeid.endswith("@alone")
