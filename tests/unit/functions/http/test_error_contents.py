"""Errors contain no internals."""

import json
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from functions.access.access_control import AccessControl
from functions.http.application import create_app, serve_with
from functions.previews.fair_turns import FairTurns
from functions.websocket.dispatch import Dispatcher
from pipeline.access.api_keys import ANONYMOUS
from pipeline.contract.records import ReplyTo
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.speech import voice_wav

PLACE = "https://secret-bucket.s3.amazonaws.com"


class Refused(ClientError):
    """What botocore says when S3 refuses."""

    def __init__(self) -> None:
        super().__init__({"Error": {"Code": "AccessDenied", "Message": f"{PLACE} /srv/secret.py"}}, "GetObject")


class Unreachable(EndpointConnectionError):
    """What botocore says when nobody answers."""

    def __init__(self) -> None:
        super().__init__(endpoint_url=PLACE)


class Silent(Unavailable):
    """What the storage makes of it."""

    def __init__(self) -> None:
        super().__init__(f"Can't reach secret-bucket at {PLACE}")


class Odd(Exception):
    """What nobody thought of."""

    def __init__(self) -> None:
        super().__init__(f'{PLACE}: File "/srv/secret.py", line 1: Traceback (most recent call last)')


FAILURES = [Refused, Unreachable, Silent, Odd]
SETTINGS = Settings(bucket="secret-bucket", voices_bucket="secret-voices", preview_wait_seconds=0)


def check_discreet(*told: str) -> None:
    for text in told:
        for word in ("secret-", "amazonaws", "Traceback", ".py", "/srv", "AccessDenied", "botocore", "GetObject"):
            assert word not in text


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/voices", {}),
    ("GET", "/voices/nova", {}),
    ("DELETE", "/voices/nova", {}),
    ("POST", "/voices", {"json": {"session_id": "SESSION", "name": "Nova"}}),
    ("POST", "/uploads", {"json": {}}),
    ("POST", "/upload", {"files": {"audio": ("a", voice_wav(120.0))}}),
    ("POST", "/preview", {"data": {"response_text": "Hi."}, "files": {"audio": ("a", voice_wav(120.0))}}),
    ("POST", "/preview", {"data": {"response_text": "Hi.", "session_id": "SESSION"}}),
    ("POST", "/preview-from-voice", {"data": {"response_text": "Hi.", "voice_id": "nova"}}),
    ("GET", "/jobs/SESSION", {}),
    ("GET", "/previews/SESSION.wav", {}),
    ("GET", "/health", {}),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("method", "path", "how"), CALLS)
async def test_routes_leak_no_internals(
    method: str, path: str, how: dict[str, Any], failure: type[Exception]
) -> None:
    fakes = FakeService(SETTINGS)
    session_id = await fakes.session()
    app = create_app(SETTINGS)
    serve_with(app, fakes.resources)
    fakes.fail_after(0, failure)
    sent: dict[str, Any] = {
        kind: {name: session_id if value == "SESSION" else value for name, value in what.items()}
        for kind, what in how.items()
    }
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, path.replace("SESSION", session_id), **sent)
    assert answer.status_code in {500, 503}
    check_discreet(answer.text, *answer.headers.values())


async def silent(message: dict[str, Any]) -> None:
    raise AssertionError(message)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(
    "message",
    [
        {"type": "generate_preview", "data": {"session_id": "SESSION", "text": "Hi."}},
        {"type": "save_voice", "data": {"session_id": "SESSION", "name": "Nova"}},
        {"type": "subscribe", "data": {"job_id": "SESSION"}},
    ],
)
async def test_messages_leak_no_internals(message: dict[str, Any], failure: type[Exception]) -> None:
    fakes = FakeService(SETTINGS)
    session_id = await fakes.session()
    fakes.fail_after(0, failure)
    dispatcher = Dispatcher(fakes.resources, AccessControl(fakes.resources), FairTurns(slots=1))
    raw = json.dumps(message).replace("SESSION", session_id)
    answer = await dispatcher.handle(ReplyTo(endpoint="http://x", connection_id="c"), ANONYMOUS, raw, silent)
    assert answer is not None
    assert answer["type"] == "error"
    check_discreet(json.dumps(answer))


@pytest.mark.parametrize(
    "path", ["/docs/assets/../core.py", "/docs/assets/%2e%2e/core.py", "/..%2f..%2fetc/passwd"]
)
async def test_only_page_files_served(path: str) -> None:
    app = create_app(SETTINGS)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    check_discreet(answer.text.replace("core.py", ""))
