"""Fixtures of the tests that measure speech."""

import pytest
from environments.venvs import EnvironmentFailed

from tests.quality.environment import quality_python


@pytest.fixture(scope="session")
def quality_environment() -> None:
    """Create the environment of the measures. Skip the test if that fails."""
    try:
        quality_python()
    except EnvironmentFailed as error:
        pytest.skip(f"the environment of the measures cannot be installed: {error}")
