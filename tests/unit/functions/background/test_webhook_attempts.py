"""Webhooks whose messages are lost or duplicated: the stored attempts decide."""

import pytest

from pipeline.clients.webhook_client import WebhookRefused
from pipeline.contract import layout
from pipeline.contract.messages.webhooks import ATTEMPTS, RETRY_SECONDS
from pipeline.domain import jobs, webhook_attempts
from tests.support.fake_service import FakeService
from tests.unit.functions.background.test_webhooks import deliver, ended_job, prepared, tell


async def sweep_each_minute(fakes: FakeService, minutes: int) -> int:
    sent = 0
    for _ in range(minutes):
        fakes.advance(minutes=1)
        sent += await webhook_attempts.resend(fakes.resources)
    return sent


@pytest.mark.parametrize("failures", [0, 1, 4])
async def test_webhook_of_lost_message_is_sent(failures: int) -> None:
    fakes, receivers, _ = await prepared()
    await ended_job(fakes)
    receivers.error = WebhookRefused("the receiver answered 500")
    for seconds in RETRY_SECONDS[:failures]:
        await deliver(fakes, receivers)
        fakes.advance(seconds=seconds)
    receivers.error = None
    fakes.webhooks.clear()
    assert await sweep_each_minute(fakes, 3 + RETRY_SECONDS[failures - 1] // 60) >= 1
    while await deliver(fakes, receivers):
        pass
    assert len(receivers.received) == failures + 1
    assert fakes.keys(layout.WEBHOOK_ATTEMPTS) == []
    assert await webhook_attempts.resend(fakes.resources, all_overdue=True) == 0


async def test_webhook_recovery_sends_overdue_only() -> None:
    fakes, receivers, _ = await prepared()
    await ended_job(fakes)
    receivers.error = WebhookRefused("the receiver answered 500")
    await deliver(fakes, receivers)
    fakes.webhooks.clear()
    assert await webhook_attempts.resend(fakes.resources, all_overdue=True) == 0
    fakes.advance(seconds=RETRY_SECONDS[0])
    assert await webhook_attempts.resend(fakes.resources, all_overdue=True) == 1
    await deliver(fakes, receivers)
    assert len(receivers.received) == 2


async def test_webhook_messages_of_slow_queue_are_few() -> None:
    fakes, receivers, _ = await prepared()
    await ended_job(fakes)
    assert await sweep_each_minute(fakes, 60) <= 8
    receivers.error = WebhookRefused("the receiver answered 500")
    while await deliver(fakes, receivers):
        pass
    assert len(receivers.received) == 1  # the other messages are duplicates
    fakes.advance(seconds=RETRY_SECONDS[0])
    assert await deliver(fakes, receivers) == 1


async def test_webhook_event_twice_sends_once() -> None:
    fakes, receivers, _ = await prepared()
    outcome = await ended_job(fakes)
    request = await jobs.read_request(fakes.resources, outcome.job_id)
    assert request is not None
    await tell(fakes, request)
    await deliver(fakes, receivers)
    assert len(receivers.received) == 1


async def test_webhook_attempts_of_expired_job_are_deleted() -> None:
    fakes, receivers, _ = await prepared()
    await ended_job(fakes)
    receivers.error = WebhookRefused("the receiver answered 500")
    await deliver(fakes, receivers)
    fakes.advance(days=2)
    await webhook_attempts.resend(fakes.resources)
    assert fakes.keys(layout.WEBHOOK_ATTEMPTS) == []


async def test_webhook_dead_letter_can_be_redriven() -> None:
    fakes, receivers, _ = await prepared()
    await ended_job(fakes)
    receivers.error = WebhookRefused("the receiver answered 500")
    for seconds in RETRY_SECONDS:
        await deliver(fakes, receivers)
        fakes.advance(seconds=seconds)
    await deliver(fakes, receivers)
    (body,) = fakes.webhooks.bodies
    fakes.webhooks.clear()
    await fakes.webhooks.send(body)
    receivers.error = None
    await deliver(fakes, receivers)
    assert len(receivers.received) == ATTEMPTS + 1
