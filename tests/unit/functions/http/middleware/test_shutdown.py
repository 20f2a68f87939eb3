"""Requests that are cancelled at shutdown."""

import asyncio
import json

import httpx
import pytest

from functions.http.application import create_app, serve_with
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.fakes.switch import Switch


class Hanging(Switch):
    """Lets so many calls pass and never answers the next."""

    def __init__(self, calls: int) -> None:
        self._left = calls
        self.is_hanging = asyncio.Event()

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        if self._left == 0:
            self.is_hanging.set()
            await asyncio.Event().wait()
        self._left -= 1


async def cancelled(fakes: FakeService, switch: Hanging) -> httpx.Response:
    """Ask for a preview, and cancel the request once the storage or the queue hangs."""
    app = create_app(fakes.resources.settings)
    serve_with(app, fakes.resources)
    session_id = await fakes.session()
    fakes.synthesis.switch = switch
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        asked = asyncio.create_task(
            client.post("/preview", data={"session_id": session_id, "response_text": "Hello."})
        )
        await switch.is_hanging.wait()
        asked.cancel()
        return await asked


@pytest.mark.parametrize(("calls", "has_job"), [(0, False), (1, True)])
async def test_cancelled_request_returns_503(calls: int, has_job: bool) -> None:
    fakes = FakeService(Settings(preview_wait_seconds=0))
    answer = await cancelled(fakes, Hanging(calls))
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["retry-after"]) > 0
    body = json.loads(answer.content)
    assert ("job_id" in body, body.get("job_id")) == (has_job, answer.headers.get("x-job-id"))
