"""The deployed schedule runs the sweep every minute.  This module comes last in its group, to avoid waiting."""

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.stack import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployed")]


def test_schedule_runs_sweep(deployment: Deployment) -> None:
    wait_until(lambda: '"service": "sweep"' in deployment.logged(), "swept", 90)
