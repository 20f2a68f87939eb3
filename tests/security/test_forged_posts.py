"""Posts to `@connections` have to be signed by the service."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials

from functions.local.connection_posts import PostedMessages, serving, verifier_for

CREDENTIALS = Credentials("LOCAL1", "secret")
FORGED = b'{"type":"tts_complete","data":{"audio_url":"https://evil.example"}}'


@dataclass
class Local(PostedMessages):
    """A served `@connections` route that records deliveries."""

    url: str = ""
    delivered: list[tuple[str, str]] = field(default_factory=list)

    def max_bytes(self, _connection_id: str) -> int:
        return 128 * 1024

    async def deliver(self, connection_id: str, body: bytes) -> bool:
        self.delivered.append((connection_id, body.decode()))
        return True

    def signed(
        self, path: str, body: bytes, credentials: Credentials = CREDENTIALS, method: str = "POST"
    ) -> dict[str, str]:
        request = AWSRequest(method=method, url=self.url + path, data=body)
        SigV4Auth(credentials, "execute-api", "us-east-1").add_auth(request)
        return dict(request.headers.items())


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    async def credentials() -> ReadOnlyCredentials:
        return CREDENTIALS.get_frozen_credentials()

    local = Local()
    async with serving(local, verifier_for(credentials)) as local.url:
        yield local


async def test_signed_post_is_delivered(local: Local) -> None:
    async with httpx.AsyncClient(base_url=local.url) as client:
        path = "/%40connections/abc%3D"
        answer = await client.post(path, content=b"hello", headers=local.signed(path, b"hello"))
    assert (answer.status_code, local.delivered) == (200, [("abc=", "hello")])


def _unsigned(_local: Local) -> dict[str, str]:
    return {"Content-Type": "text/plain", "Origin": "https://evil.example"}


def _signed_with_wrong_secret(local: Local) -> dict[str, str]:
    return local.signed("/@connections/abc", FORGED, Credentials("LOCAL1", "guess"))


def _signed_for_other_body(local: Local) -> dict[str, str]:
    return local.signed("/@connections/abc", b"{}")


def _signed_for_other_connection(local: Local) -> dict[str, str]:
    return local.signed("/@connections/xyz", FORGED)


def _with_foreign_host(local: Local) -> dict[str, str]:
    return local.signed("/@connections/abc", FORGED) | {"Host": "evil.example"}


@pytest.mark.parametrize(
    "forged",
    [
        _unsigned,
        _signed_with_wrong_secret,
        _signed_for_other_body,
        _signed_for_other_connection,
        _with_foreign_host,
    ],
)
async def test_forged_post_is_refused(local: Local, forged: Callable[[Local], dict[str, str]]) -> None:
    async with httpx.AsyncClient(base_url=local.url) as client:
        answer = await client.post("/@connections/abc", content=FORGED, headers=forged(local))
    assert (answer.status_code, local.delivered) == (403, [])
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/@connections", "/@connections/", "/", "/@connections/abc"])
async def test_connections_are_not_listed(local: Local, path: str) -> None:
    async with httpx.AsyncClient(base_url=local.url) as client:
        for headers in ({}, local.signed(path, b"", method="GET")):
            answer = await client.get(path, headers=headers)
            assert answer.status_code in (403, 404, 405)
