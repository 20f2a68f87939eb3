"""`HEAD` for routes that support `GET`."""

import pytest

from pipeline.domain import voice_changes
from tests.support.api import api
from tests.support.fake_service import FakeService


@pytest.mark.parametrize(
    "path",
    [
        "/voices",
        "/voices/nova",
        "/jobs/JOB",
        "/previews/JOB.wav",
        "/health",
        "/docs",
        "/docs/start.js",
        "/openapi.json",
    ],
)
async def test_head_equals_get(path: str) -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes) as client:
        url = path.replace("JOB", request.job_id)
        got, head = await client.get(url), await client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    varying = {"x-correlation-id"}
    assert {n: v for n, v in head.headers.items() if n not in varying} == {
        n: v for n, v in got.headers.items() if n not in varying
    }


async def test_head_not_found_has_no_body() -> None:
    async with api(FakeService()) as client:
        answer = await client.head("/voices/nobody")
    assert (answer.status_code, answer.content) == (404, b"")
