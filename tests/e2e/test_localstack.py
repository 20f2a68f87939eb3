"""`make run` against LocalStack instead of the embedded storage."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.stack import Stack, running
from tests.e2e.test_lifecycle import test_preview_save_and_reuse_voice as preview_save_and_reuse

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("localstack")]


@pytest.fixture
def stack(localstack: str, tmp_path: Path) -> Iterator[Stack]:
    environment = {"AWS_ENDPOINT_URL": localstack, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with running(tmp_path / "data", environment) as stack:
        yield stack


def test_voice_on_localstack(stack: Stack) -> None:
    preview_save_and_reuse(Client(stack.url, stack.socket_url))
