"""Audio from a worker to the API process of the connection, over HTTP."""

import json
import time
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from functions.local import connection_posts
from gpu_runner.engines.mock import MockEngine
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.messages.message_batches import Undelivered, parse_batch
from pipeline.contract.records import ReplyTo, Request, Source, Subscriber
from pipeline.domain import acceptance, jobs
from tests.support.job_requests import make_request, store_upload, success_of
from tests.support.waiting import eventually
from tests.support.workers import real_time_worker

TEXT = "Long enough to last some two seconds."


@dataclass
class Socket(connection_posts.PostedMessages):
    """The connection of a client.  It records messages and their arrival times."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def max_bytes(self, _connection_id: str) -> int:
        return 128 * 1024

    async def deliver(self, connection_id: str, message: bytes) -> bool:
        self.messages.append(json.loads(message))
        self.times.append(time.monotonic())
        return connection_id == "c"

    def deliver_batch(self, batch: bytes) -> Undelivered:
        messages = parse_batch(batch)
        self.messages += [json.loads(message) for _, message in messages]
        self.times += [time.monotonic()] * len(messages)
        return Undelivered(gone=frozenset(to for to, _ in messages if to != "c"))


async def credentials() -> ReadOnlyCredentials:
    """Return the credentials in the environment of the integration tests."""
    return ReadOnlyCredentials("testing", "testing", None)


async def accept(resources: Resources, endpoint: str, connection_id: str, *, takes_batches: bool) -> Request:
    session_id = await store_upload(resources)
    reply_to = ReplyTo(endpoint=endpoint, connection_id=connection_id, takes_batches=takes_batches)
    subscriber = Subscriber(reply_to=reply_to, stream=True)
    request = make_request(resources, Source(session_id=session_id), session_id, text=TEXT)
    request = request.model_copy(update={"subscriber": subscriber})
    await acceptance.accept(resources, request)
    return request


@pytest.mark.parametrize("takes_batches", [True, False])
async def test_audio_streams_during_synthesis(resources: Resources, takes_batches: bool) -> None:
    socket = Socket()
    async with connection_posts.serving(socket, connection_posts.verifier_for(credentials)) as endpoint:
        request = await accept(resources, endpoint, "c", takes_batches=takes_batches)
        async with real_time_worker(resources, MockEngine(speed=2)):
            await eventually(lambda: jobs.read_outcome(resources, request.job_id))
    chunks = [message["data"] for message in socket.messages if message["type"] == "tts_audio"]
    wav = await resources.bucket.get(layout.preview(request.job_id))
    assert wav is not None
    assert b"".join(b64decode(chunk["audio"]) for chunk in chunks) == wav[44:]
    # At twice real time, the chunks of two seconds of audio arrive within one second.
    assert socket.times[-1] - socket.times[1] > 0.25 * chunks[-1]["audio_seconds"]


@pytest.mark.parametrize("takes_batches", [True, False])
async def test_job_completes_after_disconnect(resources: Resources, takes_batches: bool) -> None:
    socket = Socket()
    async with connection_posts.serving(socket, connection_posts.verifier_for(credentials)) as endpoint:
        request = await accept(resources, endpoint, "gone", takes_batches=takes_batches)
        async with real_time_worker(resources, MockEngine()):
            await eventually(lambda: jobs.read_outcome(resources, request.job_id))
    assert await success_of(resources, request)
    assert len(socket.messages) == 1
