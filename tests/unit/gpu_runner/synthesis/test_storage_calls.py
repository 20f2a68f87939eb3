"""The calls to storage and queue for one preview."""

from gpu_runner.engines.mock import MockPrompt
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from tests.support.engines import ScriptedEngine
from tests.support.fakes.resources import Fakes
from tests.support.fakes.switch import Switch
from tests.support.job_requests import (
    store_upload,
    submit_session_job,
    submit_upload_job,
)
from tests.support.workers import fake_time_worker


async def asked_for(fakes: Fakes, engine: ScriptedEngine, order_job_id: str) -> dict[str, list[str]]:
    """Return the calls that a worker with an empty cache makes for one job."""
    for fake in (fakes.bucket, fakes.voices, fakes.synthesis):
        fake.switch.calls.clear()
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(order_job_id)
        await fakes.time.advance(1)
        return {
            "bucket": _but_pings(fakes.bucket.switch),
            "voices": _but_pings(fakes.voices.switch),
            "queue": _but_pings(fakes.synthesis.switch),
        }


def _but_pings(switch: Switch) -> list[str]:
    """Return the calls; a worker pings each dependency once when it starts."""
    return sorted(call for call in switch.calls if call != "ping")


# The second receive is the poll for the next job.
QUEUE = ["delete", "receive", "receive"]


async def test_calls_for_new_reference(fakes: Fakes) -> None:
    request = await submit_upload_job(fakes.resources)
    assert await asked_for(fakes, ScriptedEngine(), request.job_id) == {
        "bucket": ["put", "put_once", "put_once", "read"],
        "voices": ["read"],  # the labels of the owner, once a minute
        "queue": QUEUE,
    }


async def test_calls_with_stored_prompt(fakes: Fakes) -> None:
    session_id = await store_upload(fakes.resources)
    request = await submit_session_job(fakes.resources, session_id)
    prompt = MockPrompt(f0=100.0, level=0.1)
    await fakes.bucket.put(layout.session(session_id).embedding, prompt.to_json(), JSON)
    assert await asked_for(fakes, ScriptedEngine(), request.job_id) == {
        "bucket": ["put_once", "put_once", "read"],
        "voices": ["read"],  # the labels of the owner, once a minute
        "queue": QUEUE,
    }


async def test_calls_without_stored_prompt(fakes: Fakes) -> None:
    request = await submit_session_job(fakes.resources, await store_upload(fakes.resources))
    assert await asked_for(fakes, ScriptedEngine(), request.job_id) == {
        "bucket": ["put", "put_once", "put_once", "read", "read", "read"],
        "voices": ["read"],  # the labels of the owner, once a minute
        "queue": QUEUE,
    }


async def test_calls_with_cached_prompt(fakes: Fakes) -> None:
    session_id = await store_upload(fakes.resources)
    engine = ScriptedEngine()
    async with fake_time_worker(fakes, engine) as worker:
        first = await submit_session_job(fakes.resources, session_id)
        await worker.until_ended(first.job_id)
        fakes.bucket.switch.calls.clear()
        second = await submit_session_job(fakes.resources, session_id)
        await worker.until_ended(second.job_id)
        asked = sorted(fakes.bucket.switch.calls)
    assert asked == ["put", "put", "put_once", "put_once"]  # the puts are the request and its marker
    assert (engine.prompts_made, engine.prompts_restored) == (1, 0)
