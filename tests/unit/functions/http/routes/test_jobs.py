"""The routes of jobs."""

import asyncio
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from pipeline.contract import layout
from tests.support.api import api, last_request, problem
from tests.support.fake_service import FakeService


async def test_job_cancelled() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        waiting = asyncio.ensure_future(client.post("/preview", data=form))
        while not fakes.synthesis.bodies:  # noqa: ASYNC110 - there is nothing to wait for but turns
            await asyncio.sleep(0)
        job_id = (await last_request(fakes)).job_id
        cancelled = await client.delete(f"/jobs/{job_id}")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "failed")
        assert cancelled.json()["code"] == cancelled.json()["finish_reason"] == "cancelled"
        assert (await client.get(f"/jobs/{job_id}")).json() == cancelled.json()
        assert problem(await waiting, 409, "cancelled")["job_id"] == job_id
        again = await client.delete(f"/jobs/{job_id}")
        assert again.json() == cancelled.json()
        problem(await client.delete(f"/jobs/{fakes.resources.new_id()}"), 404, "not_found")


async def test_signed_link_expires_with_preview() -> None:
    fakes = FakeService()
    request = await fakes.job()
    async with api(fakes) as client:
        assert "signed_url" not in (await client.get(f"/jobs/{request.job_id}?signed=1")).json()
        outcome = await fakes.succeed(request)
        assert outcome.preview is not None
        redirected = await client.get(f"/previews/{request.job_id}.wav?signed=1")
        assert redirected.status_code == 303
        told = (await client.get(f"/jobs/{request.job_id}?signed=1")).json()
        assert "signed_url" not in (await client.get(f"/jobs/{request.job_id}")).json()
        for link in (redirected.headers["location"], told["signed_url"]):
            assert link.startswith(f"http://fake/{layout.preview(request.job_id)}?")
            (expires,) = parse_qs(urlsplit(link).query)["expires"]
            assert fakes.time() < datetime.fromisoformat(expires) < outcome.preview.expires_at
        fakes.advance(minutes=20)
        problem(await client.get(f"/previews/{request.job_id}.wav?signed=1"), 410, "expired")
        assert "signed_url" not in (await client.get(f"/jobs/{request.job_id}?signed=1")).json()
