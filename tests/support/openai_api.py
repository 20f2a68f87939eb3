"""Requests to `/v1`, and their errors."""

import httpx

from pipeline.domain import voice_changes
from pipeline.settings import Settings
from tests.support.fake_service import FakeService

SPEECH: dict[str, object] = {"model": "tts-1", "voice": "nova", "input": "Hello."}


def assert_error(response: httpx.Response, status: int, type_: str, code: str, param: str | None = None) -> None:
    """Assert that a response is an error in OpenAI's format."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"] == response.headers["x-correlation-id"]
    (body,) = response.json().values()
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["message"]
    assert (body["type"], body["param"], body["code"]) == (type_, param, code)
    assert response.headers.get("x-should-retry") == ("false" if status in {409, 422} else None)


async def service_with_voices(*names: str, settings: Settings | None = None) -> FakeService:
    """Return a service with these saved voices."""
    fakes = FakeService(settings or Settings())
    for name in names:
        await voice_changes.save(fakes.resources, None, await fakes.session(), name)
    return fakes


async def speech(client: httpx.AsyncClient, body: dict[str, object], **headers: str) -> httpx.Response:
    """Create speech without waiting for the audio; return the response with the job."""
    return await client.post("/v1/audio/speech", json=body, headers=headers)
