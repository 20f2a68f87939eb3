"""Failed keys are counted by the client's address, also behind CloudFront, and nobody can choose theirs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.access.failed_keys import TRIES
from functions.aws.http_adapter import answering
from functions.aws.websocket_routes import Routes
from pipeline.settings import Settings
from tests.support.aws_events import Context, process_of, recorded
from tests.support.fake_service import FakeService

SECRET = "0123456789abcdef0123456789abcdef"
WRONG_KEY = f"Bearer vck_{'a' * 12}_{'b' * 43}"

Ask = Callable[..., int]


@pytest.fixture(params=["http", "websocket"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Send a wrong key with these headers, through CloudFront or not; return the status."""
    fakes = FakeService(Settings(auth="keys", origin_secret=SECRET))
    with process_of(fakes.resources) as process:
        if request.param == "http":
            name, handler = "http_get", answering(process)
        else:
            routes = Routes(fakes.resources)
            name, handler = "websocket_connect", routes.serving(process, routes.connect)

        def send(**headers: str) -> int:
            event: dict[str, Any] = recorded(name)
            event["queryStringParameters"] = None
            sent = {f"x-{header.replace('_', '-')}": value for header, value in headers.items()}
            event["headers"] |= sent | {"authorization": WRONG_KEY}
            status: int = handler(event, Context())["statusCode"]
            return status

        yield send


def exhaust(ask: Ask, **headers: str) -> None:
    assert [ask(**headers) for _ in range(TRIES)] == [401] * TRIES
    assert ask(**headers) == 429


def test_cloudfront_viewers_are_distinct(ask: Ask) -> None:
    exhaust(ask, origin_secret=SECRET, viewer_address="198.51.100.1")
    assert ask(origin_secret=SECRET, viewer_address="198.51.100.2") == 401
    assert ask(origin_secret=SECRET, viewer_address="2001:db8::1") == 401


@pytest.mark.parametrize("forged", [{}, {"origin_secret": ""}, {"origin_secret": SECRET[:-1] + "é"}])
def test_request_that_bypasses_cloudfront_refused(ask: Ask, forged: dict[str, str]) -> None:
    assert [ask(viewer_address="198.51.100.1", **forged) for _ in range(TRIES + 1)] == [403] * (TRIES + 1)
    assert ask(origin_secret=SECRET, viewer_address="198.51.100.1") == 401


def test_invalid_viewer_address_is_ignored(ask: Ask) -> None:
    exhaust(ask, origin_secret=SECRET)
    assert ask(origin_secret=SECRET, viewer_address="anywhere") == 429


def test_origin_secret_is_not_printed() -> None:
    assert SECRET not in repr(Settings(origin_secret=SECRET))
