"""A worker against S3 and SQS over HTTP."""

import asyncio

from gpu_runner.engines.mock import MockEngine
from gpu_runner.worker import work
from pipeline import jobs, sessions
from pipeline.records import NewReference, Request, Source, Succeeded
from pipeline.resources import Resources
from tests.speech import voice


async def test_a_preview_from_request_to_outcome(resources: Resources) -> None:
    session_id, job_id = resources.new_id(), resources.new_id()
    await sessions.store(resources, session_id, voice(120), "what was said")
    request = Request(
        job_id=job_id,
        kind="preview",
        source=Source(session_id=session_id),
        reference_id=session_id,
        text="Hello there.",
        created_at=resources.clock(),
        new_reference=NewReference(transcription="what was said"),
    )
    await jobs.accept(resources, request)
    stop = asyncio.Event()
    worker = asyncio.create_task(work(resources, MockEngine, stop))
    async with asyncio.timeout(10):
        while (outcome := await jobs.read_outcome(resources, job_id)) is None:
            await asyncio.sleep(0.02)
    stop.set()
    await worker
    print(outcome)
    assert isinstance(outcome, Succeeded)
