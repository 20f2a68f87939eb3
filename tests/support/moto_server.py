"""S3 and SQS over HTTP for the integration tests, with the buckets and queues of a worker.

moto does not check presigned signatures or their expiry.
"""

import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from threading import Lock, Thread
from typing import TYPE_CHECKING

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from pipeline.clients.queues import SqsQueue
from pipeline.clients.resources import Resources, connect
from pipeline.clients.s3_bucket import S3Bucket
from pipeline.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from types_aiobotocore_sqs import SQSClient

ACCOUNT = "123456789012"


@contextmanager
def run_moto() -> Iterator[str]:
    """Run a server on a free port, and yield its URL."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no log line for each request
    app = _storage_in_turns(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def _storage_in_turns(app: "WSGIApplication") -> "WSGIApplication":
    """Serve one request to S3 at a time. moto compares an ETag and writes the object without a lock."""
    lock = Lock()

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        is_storage = environ["PATH_INFO"] != "/"  # SQS may wait for a message
        with lock if is_storage else nullcontext():
            return app(environ, start_response)

    return serve


@asynccontextmanager
async def provisioned(settings: Settings) -> AsyncIterator[Resources]:
    """Yield resources with the buckets and queues of the settings, but without event notifications."""
    async with connect(settings) as resources:
        assert isinstance(resources.bucket, S3Bucket)
        assert isinstance(resources.synthesis, SqsQueue)
        s3, sqs = resources.bucket._client, resources.synthesis._client
        for bucket in {settings.bucket, settings.bucket_for_voices}:
            await s3.create_bucket(Bucket=bucket)
        await _make_queue(sqs, settings, settings.synthesis_queue, settings.synthesis_dead_letter_queue)
        await _make_queue(sqs, settings, settings.events_queue, settings.events_dead_letter_queue)
        await _make_queue(sqs, settings, settings.webhooks_queue, settings.webhooks_dead_letter_queue)
        yield resources


async def _make_queue(sqs: "SQSClient", settings: Settings, name: str, dead_letters: str) -> None:
    await sqs.create_queue(QueueName=dead_letters)
    made = await sqs.get_queue_url(QueueName=dead_letters)
    attributes = await sqs.get_queue_attributes(QueueUrl=made["QueueUrl"], AttributeNames=["QueueArn"])
    policy = {
        "deadLetterTargetArn": attributes["Attributes"]["QueueArn"],
        "maxReceiveCount": settings.max_receives,
    }
    await sqs.create_queue(
        QueueName=name,
        Attributes={
            "VisibilityTimeout": str(settings.visibility_timeout_seconds),
            "RedrivePolicy": json.dumps(policy),
        },
    )


def put_many(settings: Settings, keys: Iterable[str]) -> None:
    """Put empty objects into the bucket without HTTP, which is a hundred times as fast."""
    backend = get_backend("s3")[ACCOUNT]["aws"]
    for key in keys:
        backend.put_object(settings.bucket, key, b"")


def age_messages(settings: Settings, seconds: float) -> None:
    """Age the messages of the synthesis queue by this time."""
    queue = get_backend("sqs")[ACCOUNT][settings.aws_region].get_queue(settings.synthesis_queue)
    for message in queue._messages:
        message.visible_at -= 1000 * seconds


def count_visible(settings: Settings) -> int:
    """Return the number of visible jobs, without receiving them."""
    queue = get_backend("sqs")[ACCOUNT][settings.aws_region].get_queue(settings.synthesis_queue)
    return int(queue.approximate_number_of_messages)
