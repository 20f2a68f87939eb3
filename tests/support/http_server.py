"""The real HTTP server in the test's event loop, and a minimal worker."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote_plus

import uvicorn
from starlette.types import ASGIApp

from functions.background import notify
from functions.local import uvicorn_options
from pipeline.audio.reference_audio import encode_wav
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout, retention
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Preview, Request, Succeeded, Timings, outcome_fields
from pipeline.domain import jobs
from pipeline.errors import SynthesisFailed
from pipeline.settings import Settings
from tests.support.speech import voice

PREVIEW_WAV = encode_wav(voice(150.0, seconds=1.0))
FAILING_TEXT = "unspeakable"


def override(settings: Settings, **update: object) -> Settings:
    """Return settings with changes, validated again.  `model_copy` would keep the derived values."""
    return Settings.model_validate(settings.model_dump() | update)


class Server(uvicorn.Server):
    """A server with an event for its start."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


@asynccontextmanager
async def run_server(app: ASGIApp, **options: object) -> AsyncIterator[str]:
    """Serve an application on a free port as `python -m functions` does, and yield its URL."""
    config = uvicorn.Config(app, timeout_graceful_shutdown=1, **(uvicorn_options.OPTIONS | options))
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        started = asyncio.create_task(server.has_started.wait())
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def outcome_event(resources: Resources, job_id: str) -> dict[str, object]:
    """Return the S3 event of an outcome, as a function receives it through SQS."""
    key = quote_plus(layout.outcome(job_id), safe="/")
    s3 = {"bucket": {"name": resources.settings.bucket}, "object": {"key": key}}
    body = {"Records": [{"eventName": "ObjectCreated:Put", "s3": s3}]}
    return {"Records": [{"messageId": "m1", "body": json.dumps(body)}]}


async def process(resources: Resources, request: Request) -> None:
    """Process one job as a worker does, and notify its subscribers."""
    if request.kind == "embedding":
        await resources.voices.put(layout.reference(request).embedding, b"{}", JSON)
        return
    if request.text == FAILING_TEXT:
        error = SynthesisFailed("It can't be said.")
        await jobs.write_outcome(resources, jobs.failure(request, error, resources.clock()))
    else:
        await jobs.write_outcome(resources, await _store_preview(resources, request))
    answer = await notify.handle(resources, outcome_event(resources, request.job_id), notify.Lookups.of(resources))
    assert answer == {"batchItemFailures": []}


async def _store_preview(resources: Resources, request: Request) -> Succeeded:
    key = layout.preview(request.job_id)
    await resources.bucket.put_once(key, PREVIEW_WAV, WAV)
    now = resources.clock()
    return Succeeded(
        **outcome_fields(request, now),
        preview=Preview(
            key=key,
            sample_rate=16_000,
            duration_seconds=1.0,
            expires_at=retention.preview_expires_at(now, resources.settings),
        ),
        timings=Timings(queued_seconds=0, synthesis_seconds=0, real_time_factor=0),
    )


async def process_queued(resources: Resources) -> list[str]:
    """Process the queued jobs and return their ids."""
    messages = await resources.synthesis.receive(10, wait_seconds=1)
    tickets = [ticket for message in messages if (ticket := parse_queue_message(message.body))]
    requests = await asyncio.gather(*(jobs.read_request(resources, ticket.job_id) for ticket in tickets))
    await asyncio.gather(*(process(resources, request) for request in requests if request))
    await resources.synthesis.delete([message.receipt for message in messages])
    return [request.job_id for request in requests if request]


@asynccontextmanager
async def run_simple_worker(resources: Resources) -> AsyncIterator[None]:
    """Process the queue until the context ends."""

    async def work() -> None:
        while True:
            await process_queued(resources)

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
