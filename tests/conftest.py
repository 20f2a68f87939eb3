"""What all tests share."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import hypothesis
import pytest
import structlog

from tests.support import localstack_server

# A deadline for each example would fail on a machine that others use too.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

QWEN = Path(__file__).parent / "qwen"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need torch, so that the tiers can name them."""
    for item in items:
        if QWEN in item.path.parents:
            item.add_marker(pytest.mark.qwen)


@pytest.fixture(scope="session")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """LocalStack's address."""
    with localstack_server.running(tmp_path_factory.mktemp("localstack") / "localstack.log") as address:
        yield address


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """Read botocore's descriptions of the services once: for each of hundreds of sessions it takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


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
