"""What all tests share."""

import pytest
import structlog


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Keep log lines short: a traceback drawn with every local takes seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ]
    )
