"""S3 and SQS over HTTP for the integration tests, and what a worker needs provisioned in them.

moto checks neither presigned signatures nor their expiry: what depends on those can't be tested with it.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aioboto3
from moto.server import ThreadedMotoServer

from pipeline.resources import Resources, client_config, connect
from pipeline.settings import Settings

ACCOUNT = "123456789012"


@contextmanager
def running() -> Iterator[str]:
    """Run a server on a free port; its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Resources]:
    """Make the buckets and queues that the settings name, and wire everything."""
    await provision(settings)
    async with connect(settings) as resources:
        yield resources


async def provision(settings: Settings) -> None:
    """Make the buckets and queues that the settings name; dead letters included, notifications not."""
    session = aioboto3.Session(region_name=settings.aws_region)
    where = {"endpoint_url": settings.aws_endpoint_url, "config": client_config()}
    async with session.client("s3", **where) as s3:
        await s3.create_bucket(Bucket=settings.bucket)
        await s3.create_bucket(Bucket=settings.bucket_for_voices)
    async with session.client("sqs", **where) as sqs:
        await _make_queue(sqs, settings, settings.synthesis_queue, settings.synthesis_dead_letter_queue)
        await _make_queue(sqs, settings, settings.events_queue, settings.events_dead_letter_queue)


async def _make_queue(sqs: Any, settings: Settings, name: str, dead_letters: str) -> None:
    await sqs.create_queue(QueueName=dead_letters)
    policy = {
        "deadLetterTargetArn": f"arn:aws:sqs:{settings.aws_region}:{ACCOUNT}:{dead_letters}",
        "maxReceiveCount": settings.max_receives,
    }
    attributes = {
        "VisibilityTimeout": str(settings.visibility_timeout_seconds),
        "RedrivePolicy": json.dumps(policy),
    }
    await sqs.create_queue(QueueName=name, Attributes=attributes)
