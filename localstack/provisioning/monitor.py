"""Reprovisions a store that has lost its buckets or queues, such as an emulator after a reset or restart."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.clients.resources import connect
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from provisioning.buckets import bucket_exists
from provisioning.provision import clients, provision
from provisioning.queues import is_url, queue_names
from provisioning.recovery import refill_queues

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

log = structlog.get_logger()

CHECK_SECONDS = 5.0


async def provision_again_when_lost(settings: Settings) -> None:
    """Check every few seconds, until cancelled, that the buckets and queues exist."""
    is_failing = False
    async with clients(settings) as (s3, sqs):
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await _check(s3, sqs, settings)
                is_failing = False
            except (Unavailable, BotoCoreError, ClientError, OSError) as error:
                if not is_failing:
                    log.warning("could not check the buckets and queues; retrying", reason=str(error))
                is_failing = True


async def _check(s3: "S3Client", sqs: "SQSClient", settings: Settings) -> None:
    missing = [name async for name in missing_resources(s3, sqs, settings)]
    if missing:
        log.error("buckets or queues are gone with what they held; making them again", missing=missing)
        await provision(settings)
        async with connect(settings) as resources:
            await refill_queues(resources)


async def missing_resources(s3: "S3Client", sqs: "SQSClient", settings: Settings) -> AsyncIterator[str]:
    """Yield the names of the buckets and queues that do not exist."""
    for bucket in settings.buckets:
        if not await bucket_exists(s3, bucket):
            yield bucket
    for queue in queue_names(settings):
        try:
            if not is_url(queue):
                await sqs.get_queue_url(QueueName=queue)
        except sqs.exceptions.QueueDoesNotExist:
            yield queue
