"""The emulator of `make deploy-local` requires signed requests for everything but the deployed APIs."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.embedded_store import Store, running_emulator

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("emulator")]

PAGE = {"Origin": "https://evil.example", "Content-Type": "text/plain"}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The emulator without a deployment."""
    with running_emulator(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_ministack/reset"),
        ("GET", "/_ministack/health"),
        ("GET", "/_aws/sqs/messages"),
        ("PUT", "/voices/keys/1/key.json"),
        ("POST", "/?Action=GetCallerIdentity"),
        ("POST", "/2015-03-31/functions"),
        ("POST", "/_aws/execute-api/api/ws/@connections/abc"),
        ("POST", "/_aws/execute-api/api/ws/%40connections/abc"),
    ],
)
def test_unsigned_request_is_refused(emulator: Store, method: str, path: str) -> None:
    response = httpx.request(method, emulator.url + path, content=b"x", headers=PAGE)
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_deployed_api_needs_no_signature(emulator: Store) -> None:
    api = f"{emulator.url}/_aws/execute-api/none/$default/health"
    response = httpx.get(api, headers=PAGE)
    assert response.status_code == 404
    assert "access-control-allow-origin" not in response.headers
    assert httpx.get(api, headers={"Host": "evil.example"}).status_code == 403


def test_signed_request_reaches_all_services(emulator: Store) -> None:
    assert emulator.client("sts").get_caller_identity()["Account"] == "000000000000"
    assert emulator.client("cloudformation").list_stacks()["StackSummaries"] == []
