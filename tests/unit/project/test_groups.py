"""Tests that share a running service run on one pytest-xdist worker."""

import os

import pytest


@pytest.mark.xdist_group("alone")
def test_xdist_group_is_applied(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("run without pytest-xdist")
    assert request.node.nodeid.endswith("@alone")
