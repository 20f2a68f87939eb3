"""S3 and SQS over HTTP, served by moto.  Each test has its own buckets and queues."""

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import certifi
import pytest

from pipeline.clients.resources import Resources
from pipeline.settings import Settings
from tests.support.moto_server import provisioned, run_moto

_numbers = count(1)


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a moto server.  The environment contains credentials for it."""
    # Each client loads the CA bundle.  One certificate is enough, and loads much faster than all.
    certificate = tmp_path_factory.mktemp("certificates") / "one.pem"
    end = "-----END CERTIFICATE-----\n"
    certificate.write_text(Path(certifi.where()).read_text().split(end, 1)[0] + end)
    with pytest.MonkeyPatch.context() as environment, run_moto() as address:
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_CA_BUNDLE", str(certificate))
        yield address


@pytest.fixture
def settings(aws: str) -> Settings:
    """Settings with bucket and queue names that are unique to the test, and short waits."""
    number = next(_numbers)
    return Settings(
        tts_backend="mock",
        aws_endpoint_url=aws,
        bucket=f"bucket-{number}",
        voices_bucket=f"voices-{number}",
        synthesis_queue=f"synthesis-{number}",
        synthesis_dead_letter_queue=f"synthesis-dead-{number}",
        events_queue=f"events-{number}",
        events_dead_letter_queue=f"events-dead-{number}",
        webhooks_queue=f"webhooks-{number}",
        webhooks_dead_letter_queue=f"webhooks-dead-{number}",
        receive_wait_seconds=1,
    )


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """Resources with empty buckets and queues."""
    async with provisioned(settings) as connected:
        yield connected
