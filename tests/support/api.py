"""The HTTP application over fakes, and assertions on its errors."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI

from functions.http.application import create_app, serve_with
from pipeline.audio.reference_audio import encode_wav
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Request
from pipeline.domain import jobs
from pipeline.errors import PipelineError
from pipeline.settings import Settings
from tests.support.fake_service import FakeService, reference_recording

RESPOND_ASYNC = {"Prefer": "respond-async"}
WAV = encode_wav(reference_recording())


@cache
def app_of(settings: Settings) -> FastAPI:
    """Return the application for these settings, created once.  Each test sets its own resources."""
    return create_app(settings)


@asynccontextmanager
async def api(fakes: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application over fakes."""
    app = app_of(fakes.resources.settings)
    serve_with(app, fakes.resources)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that a response is a problem (RFC 9457) with the fields of this service.  Return its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-correlation-id"]
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["error"] == body["detail"] != ""
    if code is not None:
        assert body["code"] == code
    return body


def fields(body: dict[str, Any]) -> list[str]:
    """Return the field names in a problem."""
    return [error["field"] for error in body.get("errors", [])]


async def last_request(fakes: FakeService) -> Request:
    """Return the request of the job that was sent to the queue last."""
    message = parse_queue_message(fakes.synthesis.bodies[-1])
    assert message is not None
    request = await jobs.read_request(fakes.resources, message.job_id)
    assert request is not None
    return request


async def complete_job(
    fakes: FakeService, calling: "asyncio.Task[httpx.Response]", error: PipelineError | None = None
) -> httpx.Response:
    """Complete the job that an HTTP request has created and waits for, or fail it; return the response."""
    while not fakes.synthesis.bodies and not calling.done():  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0)
    request = await last_request(fakes)
    if error is None:
        await fakes.succeed(request)
    else:
        await jobs.write_outcome(fakes.resources, jobs.failure(request, error, fakes.time()))
    return await calling


def parsed_events(body: bytes) -> list[dict[str, Any]]:
    """Return the server-sent events of a body: name, id and parsed data."""
    parts = [part.split("\n") for part in body.decode().strip().split("\n\n") if part]
    fields = [dict(line.split(": ", 1) for line in part if line) for part in parts]
    return [{**one, "data": json.loads(one["data"])} for one in fields if "data" in one]


def event_names(body: bytes) -> list[str]:
    """Return the names of the server-sent events of a body."""
    return [event["event"] for event in parsed_events(body)]
