"""`POST /references/check`, and the results in other responses."""

import asyncio
from typing import Any

import httpx
import pytest

from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import JobAnalysis, ReferenceCheck, Request, Succeeded, outcome_fields
from pipeline.domain import jobs, voice_changes
from pipeline.provenance.bundles.export import make_bundle
from pipeline.settings import Settings
from tests.support.analysis import NOISE
from tests.support.api import WAV, api, problem
from tests.support.fake_service import FakeService
from tests.support.waiting import until

CHECK = ReferenceCheck(warnings=(NOISE,), measures={"seconds": 2.0}, suggested_transcription="hello")


def requests(fakes: FakeService) -> list[Request]:
    keys = [key for key in fakes.bucket.objects if key.endswith("/request.json")]
    return [Request.model_validate_json(fakes.bucket.objects[key].body) for key in keys]


async def work(fakes: FakeService) -> None:
    """End the next check, as a worker does."""
    await until(lambda: bool(requests(fakes)))
    (request,) = requests(fakes)
    assert request.kind == "check"
    await fakes.bucket.put(layout.reference(request).check, CHECK.to_json(), JSON)
    outcome = Succeeded(**outcome_fields(request, fakes.time()), reference_check=CHECK)
    await jobs.write_outcome(fakes.resources, outcome)


async def checked(fakes: FakeService, **form: Any) -> httpx.Response:
    async with api(fakes) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(work(fakes))
        return await client.post("/references/check", **form)


async def test_check_returns_warnings() -> None:
    fakes = FakeService()
    answer = await checked(fakes, files={"audio": WAV}, data={"transcription": "Hello."})
    assert answer.status_code == 200
    body = answer.json()
    assert body["warnings"] == [NOISE.model_dump()]
    assert body["suggested_transcription"] == "hello"
    keys = layout.session(body["session_id"])
    assert fakes.bucket.objects[keys.transcription].body == b"Hello."
    assert keys.audio in fakes.bucket.objects


async def test_check_of_session() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    answer = await checked(fakes, data={"session_id": session_id})
    assert answer.json()["session_id"] == session_id


async def test_slow_check_continues_as_job() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        answer = await client.post("/references/check", files={"audio": WAV}, headers={"prefer": "respond-async"})
        assert answer.status_code == 202
        await work(fakes)
        job = (await client.get(answer.headers["location"])).json()
    assert job["status"] == "succeeded"
    assert job["reference_check"]["warnings"] == [NOISE.model_dump()]


@pytest.mark.parametrize("form", [{"transcription": "a", "session_id": "0" * 32}, {"transcription": "a"}])
async def test_check_needs_one_recording(form: dict[str, str]) -> None:
    async with api(FakeService()) as client:
        problem(await client.post("/references/check", data=form), 422, "invalid_input")


async def test_job_shows_later_analysis() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    analysis = JobAnalysis(reference_check=CHECK, speaker_similarity=0.8)
    await fakes.bucket.put(layout.analysis(request.job_id), analysis.to_json(), JSON)
    async with api(fakes) as client:
        job = (await client.get(f"/jobs/{request.job_id}")).json()
    assert job["speaker_similarity"] == 0.8
    assert job["reference_check"]["warnings"] == [NOISE.model_dump()]


async def test_required_check_precedes_saving() -> None:
    fakes = FakeService(Settings(quality="require"))
    session_id = await fakes.session()
    async with api(fakes) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(work(fakes))
        answer = await client.post("/voices", json={"session_id": session_id, "name": "Nova"})
    assert "noise" in problem(answer, 422, "reference_rejected")["error"]


async def test_required_check_precedes_import() -> None:
    other = FakeService()
    await voice_changes.save(other.resources, None, await other.session(), "Nova")
    bundle = await make_bundle(other.resources, None, "nova")
    fakes = FakeService(Settings(quality="require"))
    async with api(fakes) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(work(fakes))
        answer = await client.post("/voices/import", files={"bundle": bundle})
    assert "noise" in problem(answer, 422, "reference_rejected")["error"]
    assert not any(key.endswith("metadata.json") for key in fakes.voices.objects)
