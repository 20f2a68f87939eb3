"""What the unit tests stand on: settings of their own, and a worker among fakes."""

import pytest

from pipeline.settings import Settings
from tests.support.fakes import Fakes, make_fakes


@pytest.fixture
def settings() -> Settings:
    """Settings with short names and the defaults otherwise."""
    return Settings(tts_backend="mock", bucket="bucket", voices_bucket="voices")


@pytest.fixture
async def fakes(settings: Settings) -> Fakes:
    """Fakes for everything outside of the process."""
    return make_fakes(settings)
