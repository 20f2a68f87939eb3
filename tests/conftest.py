"""Fixtures and markers for all tests."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import hypothesis
import pytest
import structlog

from tests.support import localstack_server

# No deadline for each example: it would fail on a busy machine.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Most tests compare the engine's samples. Tests of marking set it themselves.
os.environ.setdefault("MARK", "off")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see `functions`; numpy is not imported yet

QWEN = Path(__file__).parent / "qwen"
ID_MAX = 100


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need torch."""
    for item in items:
        if QWEN in item.path.parents:
            item.add_marker(pytest.mark.qwen)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Return a short id for a long text: each worker would send the whole text with every report."""
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > ID_MAX else None


@pytest.fixture(scope="session")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of LocalStack."""
    with localstack_server.running(tmp_path_factory.mktemp("localstack") / "localstack.log") as address:
        yield address


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """Load botocore's service models once.  Loading them for hundreds of sessions takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Log without rich tracebacks, which take seconds to render."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ]
    )
