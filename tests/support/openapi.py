"""The OpenAPI document, a service with one object of each kind, and checks of responses."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from functions.http.application import create_app, serve_with
from functions.http.middleware.security_headers import HEADERS
from functions.http.openai.errors import is_openai
from functions.http.responses import problems
from pipeline.audio.reference_audio import encoded
from pipeline.contract import layout
from pipeline.contract.records import Source
from pipeline.domain import voice_changes
from pipeline.domain.consents import giving, recorded
from pipeline.domain.consents.giving import Terms
from pipeline.settings import Settings
from tests.support.api import app_of
from tests.support.fake_service import PROMPT, FakeService
from tests.support.speech import voice

METHODS = {"get", "post", "put", "delete", "head", "patch", "options"}
API = create_app(Settings(preview_wait_seconds=0))
serve_with(API, FakeService(Settings(preview_wait_seconds=0)).resources)
DESCRIPTION: dict[str, Any] = API.openapi()

OPERATIONS = [
    pytest.param(method, path, operation, id=f"{method} {path}")
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
]

SLOW = "a stalled body"


async def stalled() -> AsyncIterator[bytes]:
    """Send the first byte of a body and then stall."""
    yield b"{"
    await asyncio.Event().wait()


class Prepared:
    """A service with one object of each kind.  `names` maps the placeholders of the request tables to ids."""

    def __init__(self) -> None:
        self.fakes = FakeService(Settings(preview_wait_seconds=0, body_timeout_seconds=0.05))
        self.names: dict[str, str] = {}

    async def fill(self) -> None:
        fakes, names = self.fakes, self.names
        names["EXPIRED"] = fakes.resources.new_id()
        fakes.advance(hours=24)
        names["UNKNOWN"], names["SESSION"] = fakes.resources.new_id(), await fakes.session()
        queued, done = await fakes.job(), await fakes.job()
        await fakes.bucket.put(layout.preview(done.job_id), encoded(voice(120.0)).wav, "audio/wav")
        await fakes.succeed(done)
        names["QUEUED"], names["DONE"] = queued.job_id, done.job_id
        recording = encoded(voice(120.0))
        made = await recorded.create(fakes.resources, None, "Mine", "en", "I agree.", recording)
        names["CONSENT"] = made.consent_id
        session = Source(session_id=names["SESSION"])
        asked, token = await giving.prepare(fakes.resources, None, session, Terms("Ann", ["books"]), "en")
        names["ASKED"], names["TOKEN"] = asked.consent_id, token
        given, token = await giving.prepare(fakes.resources, None, session, Terms("Ann", ["books"]), "en")
        await giving.give(fakes.resources, None, given.consent_id, recording)
        names["GIVEN"], names["SECRET"] = given.consent_id, token
        await voice_changes.save(fakes.resources, None, names["SESSION"], "Taken")
        await voice_changes.save(fakes.resources, None, names["SESSION"], "Taken too")
        await fakes.voices.put(layout.voice(None, "taken").embedding, PROMPT, "application/json")

    def called(self, value: Any) -> Any:
        """Replace the placeholders by ids."""
        if isinstance(value, dict):
            return {name: self.called(inner) for name, inner in value.items()}
        if value == SLOW:
            return stalled()
        if isinstance(value, str):
            for name, id_ in self.names.items():
                value = value.replace(name, id_)
        return value


def client_of(fakes: FakeService) -> httpx.AsyncClient:
    app = app_of(fakes.resources.settings)
    serve_with(app, fakes.resources)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def described(method: str, path: str) -> dict[str, Any]:
    plain = path.partition("?")[0]
    for template, methods in DESCRIPTION["paths"].items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), plain) and method in methods:
            found: dict[str, Any] = methods[method]
            return found
    raise AssertionError(f"{method} {path} is not described")


# Headers of the connection, and security headers for browsers.
FRAMING = {"x-accel-buffering", "content-length", "content-type", "date", "connection"} | {
    name.lower() for name in HEADERS
}


def check(answer: Any, method: str, path: str, status: int) -> None:
    """Assert that a response has a described status, media type and headers."""
    assert answer.status_code == status, answer.text
    declared = described(method, path)["responses"][str(status)]
    assert set(answer.headers) - FRAMING <= {name.lower() for name in declared["headers"]}
    if answer.content:
        assert answer.headers["content-type"] in declared["content"]
    if status >= 400 and is_openai(path):
        assert answer.json()["error"]["message"]
        assert answer.headers.get("x-should-retry") == ("false" if status in {409, 422} else None)
    elif status >= 400:
        assert answer.headers["content-type"] == problems.MEDIA_TYPE
        assert answer.json()["error"] == answer.json()["detail"]
