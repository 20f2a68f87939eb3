"""Requests to AWS when no endpoint is set: hosts, signatures and session tokens."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiobotocore.httpsession import AIOHTTPSession

from pipeline.clients.resources import Resources, connect
from pipeline.contract.records import ReplyTo
from pipeline.settings import Settings

KEY, TOKEN = "ASIAIOSFODNN7EXAMPLE", "the-token-of-a-role"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": TOKEN}


def storage_host(region: str) -> str:
    """Return the host of S3.  botocore uses the global name for us-east-1."""
    return "s3.amazonaws.com" if region == "us-east-1" else f"s3.{region}.amazonaws.com"


class Sent(Exception):
    """A request that was intercepted before it was sent."""


@pytest.fixture(params=["us-east-1", "eu-central-1", "ap-southeast-2"])
def region(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SQS", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    found: str = request.param
    return found


@pytest.fixture
async def resources(region: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resources]:
    async def send(_session: Any, request: Any) -> None:
        raise Sent(request)

    monkeypatch.setattr(AIOHTTPSession, "send", send)
    queue = f"https://sqs.{region}.amazonaws.com/123456789012/jobs"
    settings = Settings(aws_region=region, bucket="the-bucket", voices_bucket="the-voices", synthesis_queue=queue)
    async with connect(settings) as connected:
        yield connected


def check_signature(request: Any, service: str, region: str) -> str:
    """Check the signature of a request and return its URL."""
    authorization = request.headers["Authorization"].decode()
    assert authorization.startswith(f"AWS4-HMAC-SHA256 Credential={KEY}/")
    assert f"/{region}/{service}/aws4_request" in authorization
    assert request.headers["X-Amz-Security-Token"].decode() == TOKEN
    return str(request.url)


async def test_s3_request_host_and_signature(resources: Resources, region: str) -> None:
    with pytest.raises(Sent) as sent:
        await resources.bucket.put_once("jobs/1/outcome.json", b"{}", "application/json")
    request = sent.value.args[0]
    url = check_signature(request, "s3", region)
    assert url == f"https://{storage_host(region)}/the-bucket/jobs/1/outcome.json"
    assert request.headers["If-None-Match"] == b"*"


async def test_sqs_request_host_and_signature(resources: Resources, region: str) -> None:
    with pytest.raises(Sent) as sent:
        await resources.synthesis.send("{}", group="alice")
    url = check_signature(sent.value.args[0], "sqs", region)
    assert url.removesuffix("/") == f"https://sqs.{region}.amazonaws.com"


async def test_connections_request_host_and_signature(resources: Resources, region: str) -> None:
    host = f"a1b2c3.execute-api.{region}.amazonaws.com"
    with pytest.raises(Sent) as sent:
        await resources.connections.post(ReplyTo(endpoint=f"https://{host}/ws", connection_id="Xf="), b"{}")
    url = check_signature(sent.value.args[0], "execute-api", region)
    assert url.startswith(f"https://{host}/ws/@connections/Xf")


async def test_presigned_url_has_session_token(resources: Resources, region: str) -> None:
    url = urlsplit(
        await resources.bucket.presign_get(
            "audio/previews/1.wav", lifetime=timedelta(minutes=5), content_type="audio/wav", disposition="inline"
        )
    )
    assert (url.scheme, url.netloc) == ("https", storage_host(region))
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert asked["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert f"/{region}/s3/aws4_request" in asked["X-Amz-Credential"]
    # The key of a role is only valid with its session token.
    assert asked["X-Amz-Security-Token"] == TOKEN
    assert asked["X-Amz-Expires"] == "300"


async def test_presigned_form_has_session_token(resources: Resources, region: str) -> None:
    form = await resources.bucket.presign_post(
        "audio/uploads/1/upload", content_type="audio/wav", max_bytes=1000, lifetime=timedelta(minutes=5)
    )
    assert form.url == f"https://{storage_host(region)}/the-bucket"
    assert form.fields["x-amz-security-token"] == TOKEN
    assert f"/{region}/s3/aws4_request" in form.fields["x-amz-credential"]
