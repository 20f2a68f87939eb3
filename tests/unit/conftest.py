"""Fixtures for the unit tests: settings and fakes."""

import pytest

from pipeline.settings import Settings
from tests.support.fakes.resources import Fakes, make_fakes


@pytest.fixture
def settings() -> Settings:
    """Settings with short bucket names, and defaults otherwise."""
    return Settings(tts_backend="mock", bucket="bucket", voices_bucket="voices")


@pytest.fixture
async def fakes(settings: Settings) -> Fakes:
    """Fakes for all external services."""
    return make_fakes(settings)
