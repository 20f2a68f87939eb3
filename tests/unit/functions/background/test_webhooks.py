"""Webhooks: who is told, signed with what, when again, and what happens when nobody accepts it."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from functions.background import notify, webhooks
from functions.websocket import server_messages
from pipeline.access import webhook_receivers
from pipeline.audio.reference_audio import encode_wav
from pipeline.clients.webhook_client import WebhookRefused
from pipeline.contract import layout
from pipeline.contract.messages.events import created_notification
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.messages.webhooks import ATTEMPTS, RETRY_SECONDS, retry_delay, signed_headers
from pipeline.contract.records import Outcome, Request
from pipeline.domain import jobs, voice_changes
from pipeline.errors import InvalidInput
from pipeline.settings import Settings
from tests.support.api import api, fields, problem
from tests.support.fake_service import FakeService, reference_recording
from tests.support.waiting import until

URL = "https://example.com/hook"
WAV = encode_wav(reference_recording())
DAY = timedelta(days=1)


class Receivers:
    """Accepts what it is sent, or answers with an error."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.error: WebhookRefused | None = None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """See `WebhookClient.send`."""
        self.received.append((url, dict(headers), body))
        if self.error:
            raise self.error


async def ended_job(fakes: FakeService, url: str | None = URL) -> Outcome:
    """End a job and let its subscribers be notified."""
    request = (await fakes.job()).model_copy(update={"webhook_url": url})
    outcome = await fakes.succeed(request)
    await tell(fakes, request)
    return outcome


async def tell(fakes: FakeService, request: Request) -> None:
    body = created_notification("b", layout.outcome(request.job_id))
    event = {"Records": [{"messageId": "m", "body": body}]}
    assert await notify.handle(fakes.resources, event, notify.Lookups.of(fakes.resources)) == {
        "batchItemFailures": []
    }


async def deliver(fakes: FakeService, receivers: Receivers) -> int:
    """Let the function handle what is visible; return how many messages it was given."""
    received = await fakes.webhooks.receive(10, wait_seconds=0)
    records = [
        {
            "messageId": message.id,
            "receiptHandle": message.receipt,
            "body": message.body,
            "attributes": {"ApproximateReceiveCount": str(message.receive_count)},
        }
        for message in received
    ]
    answer = await webhooks.handle(fakes.resources, {"Records": records}, receivers, jitter=lambda: 0)
    failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    await fakes.webhooks.delete([message.receipt for message in received if message.id not in failed])
    return len(received)


async def prepared() -> tuple[FakeService, Receivers, str]:
    fakes = FakeService()
    return fakes, Receivers(), await webhook_receivers.make_secret(fakes.resources, None)


async def test_webhook_has_websocket_message() -> None:
    fakes, receivers, _ = await prepared()
    outcome = await ended_job(fakes)
    await deliver(fakes, receivers)
    ((url, headers, body),) = receivers.received
    assert url == URL
    assert json.loads(body) == await server_messages.completion(fakes.resources, outcome)
    assert headers["webhook-id"] == outcome.job_id
    assert headers["Content-Type"] == "application/json"
    assert fakes.webhooks.bodies == []


def signed(secrets: list[str], body: bytes, fakes: FakeService) -> dict[str, str]:
    return signed_headers(secrets, "id", fakes.time(), body)


async def test_webhook_signature() -> None:
    fakes, _, secret = await prepared()
    headers = signed([secret], b'{"a": 1}', fakes)
    expected = Webhook(secret).sign("id", fakes.time(), '{"a": 1}')
    assert headers["webhook-signature"] == expected
    assert headers["webhook-timestamp"] == str(int(fakes.time().timestamp()))


async def test_webhook_verified_by_library() -> None:
    fakes, _, secret = await prepared()
    fakes.time.now = fakes.time.now.now(fakes.time.now.tzinfo)  # the package compares with the machine's clock
    body = '{"type": "tts_complete"}'
    headers = signed([secret], body.encode(), fakes)
    assert Webhook(secret).verify(body, headers) == {"type": "tts_complete"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + " ", headers)


async def test_webhook_signed_with_two_secrets() -> None:
    fakes, receivers, first = await prepared()
    second = await webhook_receivers.make_secret(fakes.resources, None)
    await ended_job(fakes)
    await deliver(fakes, receivers)
    ((_, headers, body),) = receivers.received
    both = {Webhook(secret).sign(headers["webhook-id"], fakes.time(), body.decode()) for secret in (first, second)}
    assert set(headers["webhook-signature"].split()) == both
    third = await webhook_receivers.make_secret(fakes.resources, None)
    assert (await webhook_receivers.read(fakes.resources, None)).secrets == (third, second)


async def test_failed_webhook_is_retried_for_day() -> None:
    fakes, receivers, _ = await prepared()
    began = fakes.time()
    outcome = await ended_job(fakes)
    receivers.error = WebhookRefused("the receiver answered 500")
    for seconds in RETRY_SECONDS:
        assert await deliver(fakes, receivers) == 1
        fakes.advance(seconds=seconds - 1)
        assert await deliver(fakes, receivers) == 0
        fakes.advance(seconds=1)
    assert await jobs.webhook_error(fakes.resources, outcome.job_id) is None
    assert await deliver(fakes, receivers) == 1
    assert timedelta(hours=21) < fakes.time() - began < DAY
    assert len(receivers.received) == ATTEMPTS
    assert len({(headers["webhook-id"], body) for _, headers, body in receivers.received}) == 1
    assert len(fakes.webhooks.visible) == 1  # and the queue's redrive policy makes it a dead letter
    async with api(fakes) as client:
        seen = (await client.get(f"/jobs/{outcome.job_id}")).json()
    assert seen["webhook_error"] == "the receiver answered 500"


async def test_webhook_410_is_not_retried() -> None:
    fakes, receivers, _ = await prepared()
    outcome = await ended_job(fakes)
    receivers.error = WebhookRefused("the receiver answered 410", is_final=True)
    await deliver(fakes, receivers)
    assert fakes.webhooks.bodies == []
    assert await jobs.webhook_error(fakes.resources, outcome.job_id) == "the receiver answered 410"


@pytest.mark.parametrize("attempt", range(1, ATTEMPTS))
def test_webhook_delay_jitter(attempt: int) -> None:
    longest, shortest = retry_delay(attempt, 0), retry_delay(attempt, 1)
    assert longest is not None
    assert shortest is not None
    assert longest * 0.79 <= shortest < longest


async def test_webhook_of_expired_job() -> None:
    fakes, receivers, _ = await prepared()
    outcome = await ended_job(fakes)
    await fakes.bucket.delete([layout.outcome(outcome.job_id)])
    await deliver(fakes, receivers)
    assert (receivers.received, fakes.webhooks.bodies) == ([], [])


async def test_webhook_storage_unavailable() -> None:
    fakes, receivers, _ = await prepared()
    await ended_job(fakes)
    fakes.bucket.switch.is_up = False
    await deliver(fakes, receivers)
    assert len(fakes.webhooks.bodies) == 1


class FailingClient(Receivers):
    """Fails in a way that nobody expects."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        await super().send(url, headers, body)
        raise UnicodeError("label too long")


async def test_webhook_unexpected_error_is_retried() -> None:
    fakes, _, _ = await prepared()
    outcome, client = await ended_job(fakes), FailingClient()
    for seconds in RETRY_SECONDS:
        await deliver(fakes, client)
        fakes.advance(seconds=seconds)
    await deliver(fakes, client)
    assert len(client.received) == ATTEMPTS
    assert await jobs.webhook_error(fakes.resources, outcome.job_id) == "an internal error"


async def test_webhook_damaged_outcome_is_retried() -> None:
    fakes, receivers, _ = await prepared()
    outcome = await ended_job(fakes)
    await fakes.bucket.put(layout.outcome(outcome.job_id), b"{", "application/json")
    await deliver(fakes, receivers)
    fakes.advance(seconds=RETRY_SECONDS[0] - 1)
    assert await deliver(fakes, receivers) == 0
    fakes.advance(seconds=1)
    assert await deliver(fakes, receivers) == 1


async def test_webhook_default_receiver() -> None:
    fakes, receivers, _ = await prepared()
    await webhook_receivers.set_url(fakes.resources, None, "https://example.com/default")
    await ended_job(fakes, None)
    await ended_job(fakes, URL)
    await deliver(fakes, receivers)
    assert [url for url, *_ in receivers.received] == ["https://example.com/default", URL]


async def test_job_without_webhook() -> None:
    fakes, _, _ = await prepared()
    await ended_job(fakes, None)
    assert fakes.webhooks.bodies == []


async def test_webhook_queue_groups() -> None:
    fakes, _, _ = await prepared()
    for url in (URL, URL + "/other", "https://slow.example/"):
        await ended_job(fakes, url)
    first, second, third = fakes.webhooks.groups
    assert first == second != third
    assert first is not None
    assert "example" not in first


@pytest.mark.parametrize("path", ["/preview", "/preview-from-voice"])
async def test_webhook_needs_secret_and_https(path: str) -> None:
    fakes = FakeService(Settings(auth="none", host="0.0.0.0"))
    form = {"response_text": "Hi.", "webhook_url": URL}
    form |= {"session_id": await fakes.session()} if path == "/preview" else {"voice_id": "x"}
    async with api(fakes) as client:
        body = problem(await client.post(path, data=form), 422, "invalid_input")
        assert "webhook-secret" in body["error"]
        await webhook_receivers.make_secret(fakes.resources, None)
        body = problem(await client.post(path, data=form | {"webhook_url": "http://example.com/"}), 422)
    assert fields(body) == ["webhook_url"]
    assert fakes.synthesis.bodies == []


async def test_webhook_url_is_stored() -> None:
    fakes, _, _ = await prepared()
    form = {"response_text": "Hi.", "session_id": await fakes.session(), "webhook_url": URL}
    async with api(fakes) as client:
        answer = await client.post("/preview", data=form, headers={"Prefer": "respond-async"})
    request = await jobs.read_request(fakes.resources, answer.json()["job_id"])
    assert request is not None
    assert request.webhook_url == URL


@pytest.mark.parametrize("voice", [{"voice": "nova"}, {"ref_audio": base64.b64encode(WAV).decode()}])
async def test_speech_request_webhook(voice: dict[str, str]) -> None:
    fakes, _, _ = await prepared()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    form = {"model": "tts-1", "input": "Hi.", "webhook_url": URL} | voice
    async with api(fakes) as client:
        refused = await client.post("/v1/audio/speech", json=form | {"webhook_url": "https://10.0.0.1/"})
        calling = asyncio.ensure_future(client.post("/v1/audio/speech", json=form))
        await until(lambda: bool(fakes.synthesis.bodies))
        (ticket,) = [parse_queue_message(body) for body in fakes.synthesis.bodies]
        assert ticket is not None
        request = await jobs.read_request(fakes.resources, ticket.job_id)
        assert request is not None
        await fakes.fail(request)
        await calling
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "webhook_url")
    assert request.webhook_url == URL


LOCAL: dict[str, Any] = {"auth": "none", "host": "127.0.0.1"}


@pytest.mark.parametrize(
    ("url", "more", "is_allowed"),
    [
        (URL, {}, True),
        ("https://example.com:8443/a?b=c", {}, True),
        ("https://1.1.1.1/", {}, True),
        ("https://[2606:4700::1111]/", {}, True),
        ("http://127.0.0.1:9000/hook", {}, True),
        ("http://localhost:9000/hook", {}, True),
        ("http://127.0.0.1:9000/hook", {"host": "0.0.0.0"}, False),
        ("https://127.0.0.1/hook", {"auth": "keys"}, False),
        ("http://example.com/", {}, False),
        ("ftp://example.com/", {}, False),
        ("https://", {}, False),
        ("https://user@example.com/", {}, False),
        ("https://user:pass@example.com/", {}, False),
        ("https://example.com/#x", {}, False),
        ("https://example.com:0/", {}, False),
        ("https://example.com:99999/", {}, False),
        ("https://[::1/", {}, False),
        ("https://exa mple.com/", {}, False),
        ("https://example.com/\r\nx", {}, False),
        ("https://exämple.com/", {}, False),
        ("https://example.com/" + "a" * 2048, {}, False),
        ("https://10.0.0.1/", {}, False),
        ("https://169.254.169.254/latest/meta-data", {}, False),
        ("https://[fd00:ec2::254]/", {}, False),
        ("https://[::ffff:10.0.0.1]/", {}, False),
    ],
)
def test_webhook_url_validation(url: str, more: dict[str, Any], is_allowed: bool) -> None:
    settings = Settings(**LOCAL | more)
    if is_allowed:
        assert webhook_receivers.check_url(url, settings) == url
    else:
        with pytest.raises(InvalidInput, match="https://"):
            webhook_receivers.check_url(url, settings)


async def test_default_receiver_is_cached() -> None:
    fakes, _, _ = await prepared()
    receivers = webhook_receivers.DefaultReceivers(fakes.resources)
    assert await receivers.url_of(None) is None
    await webhook_receivers.set_url(fakes.resources, None, "https://example.com/default")
    fakes.advance(seconds=59)
    assert await receivers.url_of(None) is None
    fakes.advance(seconds=2)
    reads = fakes.voices.switch.count("read")
    assert await receivers.url_of(None) == "https://example.com/default"
    assert await receivers.url_of(None) == "https://example.com/default"
    assert fakes.voices.switch.count("read") == reads + 1
