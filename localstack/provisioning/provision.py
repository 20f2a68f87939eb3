"""Creates the buckets and queues that the settings name, with their rules; idempotent.

The same code serves ministack, LocalStack, moto, MinIO beside a queue, and AWS.  Other configuration
of the buckets and queues is kept: our rules are identified by their ids.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.clients.resources import client_config, session_for
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from provisioning.buckets import provision_buckets, provision_notification
from provisioning.queues import provision_queues

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The capabilities of the storage."""

    notifies: bool  # whether the storage sends events of new outcomes to the queue


async def provision(settings: Settings) -> Provisioned:
    """Create missing buckets and queues, and update those that differ.

    Raises
    ------
    Unavailable
        The storage or the queues don't respond, or refuse something essential.
    """
    with _client_errors_translated(settings):
        async with clients(settings) as (s3, sqs):
            events_arn = await provision_queues(sqs, settings)
            await provision_buckets(s3, settings)
            return Provisioned(notifies=await provision_notification(s3, settings.bucket, events_arn))


@asynccontextmanager
async def clients(settings: Settings) -> AsyncIterator[tuple["S3Client", "SQSClient"]]:
    """Open clients of the storage and the queues."""
    session, config = session_for(settings), client_config()
    async with (
        session.client("s3", endpoint_url=settings.endpoint_for("s3"), config=config) as s3,
        session.client("sqs", endpoint_url=settings.endpoint_for("sqs"), config=config) as sqs,
    ):
        yield s3, sqs


@contextmanager
def _client_errors_translated(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        s3 = settings.endpoint_for("s3") or "AWS"
        sqs = settings.endpoint_for("sqs") or "AWS"
        raise Unavailable(f"Can't provision S3 at {s3} and SQS at {sqs}: {error}") from error
