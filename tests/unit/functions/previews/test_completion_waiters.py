"""Requests that wait for their jobs: notifications and polling."""

import asyncio

from functions.previews.completion_waiters import CompletionWaiters
from functions.previews.received_audio import ReceivedAudio
from pipeline.contract.messages.completions import Completion
from pipeline.contract.messages.stream_messages import AudioChunk, stream_message
from pipeline.errors import Unavailable
from tests.support.fake_service import FakeService
from tests.support.fakes.switch import Switch

LONG = 60.0
WAKE = b'{"job_id": "j1"}'


def waiters_of(fakes: FakeService, endpoint: str | None = "http://127.0.0.1:9") -> CompletionWaiters:
    waiters = CompletionWaiters(fakes.resources)
    waiters.endpoint = endpoint
    return waiters


async def test_notification_ends_wait() -> None:
    fakes = FakeService()
    waiters = waiters_of(fakes)
    with waiters.waiter("j1") as waiter:
        assert waiter.subscriber is not None
        assert (waiter.subscriber.interface, waiter.subscriber.reply_to.endpoint) == ("http", waiters.endpoint)
        connection_id = waiter.subscriber.reply_to.connection_id
        waiting = asyncio.ensure_future(waiters.wait(waiter, LONG))
        await asyncio.sleep(0)
        assert waiters.deliver(connection_id, WAKE)
        assert await waiting
    assert fakes.bucket.switch.calls == []
    assert not waiters.deliver(connection_id, WAKE)


async def test_notification_before_wait() -> None:
    waiters = waiters_of(FakeService())
    with waiters.waiter("j1") as waiter:
        assert waiter.subscriber is not None
        assert waiters.deliver(waiter.subscriber.reply_to.connection_id, WAKE)
        assert waiters.deliver(waiter.subscriber.reply_to.connection_id, WAKE)
        assert await waiters.wait(waiter, LONG)


async def test_unreachable_process_polls() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    waiters = waiters_of(fakes, endpoint=None)
    with waiters.waiter(request.job_id) as waiter:
        assert waiter.subscriber is None
        assert await waiters.wait(waiter, LONG)


async def test_wait_survives_storage_outage() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    fakes.bucket.switch = AwayAtFirst()
    waiters = waiters_of(fakes, endpoint=None)
    with waiters.waiter(request.job_id) as waiter:
        assert await waiters.wait(waiter, LONG)
    assert fakes.bucket.switch.count("head") == 2


class AwayAtFirst(Switch):
    """Does not answer the first call."""

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        if len(self.calls) == 1:
            raise Unavailable("away")


async def test_wait_timeout() -> None:
    waiters = waiters_of(FakeService())
    with waiters.waiter("j1") as waiter:
        assert not await waiters.wait(waiter, 0.01)


async def test_waiter_removed_at_end() -> None:
    waiters = waiters_of(FakeService())
    with waiters.waiter("j1") as waiter:
        assert waiter.subscriber is not None
        waiting = asyncio.ensure_future(waiters.wait(waiter, LONG))
        await asyncio.sleep(0)
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    assert not waiters.deliver(waiter.subscriber.reply_to.connection_id, WAKE)


async def test_waiters_are_independent() -> None:
    waiters = waiters_of(FakeService())
    with waiters.waiter("j1") as one, waiters.waiter("j2") as other:
        assert one.subscriber is not None
        waiters.deliver(one.subscriber.reply_to.connection_id, WAKE)
        assert await waiters.wait(one, LONG)
        assert not await waiters.wait(other, 0.01)


async def test_stop_ends_all_waits() -> None:
    waiters = waiters_of(FakeService())
    with waiters.waiter("j1") as waiter:
        waiting = asyncio.ensure_future(waiters.wait(waiter, LONG))
        await asyncio.sleep(0)
        waiters.stop()
        assert not await waiting
    with waiters.waiter("j1") as later:
        assert not await waiters.wait(later, LONG)


async def test_notification_after_completion() -> None:
    fakes = FakeService()
    outcome = await fakes.succeed(await fakes.job())
    waiters = waiters_of(fakes)
    with waiters.waiter(outcome.job_id) as waiter:
        assert waiter.subscriber is not None
        connection_id = waiter.subscriber.reply_to.connection_id
        assert waiters.deliver(connection_id, Completion(outcome, b"RIFF\n\x00").to_bytes())
        assert await waiters.wait(waiter, LONG)
        assert waiter.completion == Completion(outcome, b"RIFF\n\x00")
    assert waiters.deliver(connection_id, WAKE)
    assert not waiters.deliver("another", WAKE)


async def test_audio_ends_wait() -> None:
    waiters = waiters_of(FakeService())
    chunk = AudioChunk(job_id="j", take="t", seq=0, sample_rate=8000, audio_seconds=0.1, audio="QUI=")
    with waiters.waiter("j", ReceivedAudio()) as listening, waiters.waiter("j") as other:
        assert listening.subscriber is not None
        assert other.subscriber is not None
        assert (listening.subscriber.stream, other.subscriber.stream) == (True, False)
        assert waiters.deliver(listening.subscriber.reply_to.connection_id, stream_message(chunk))
        assert await waiters.wait(listening, LONG)
        assert not listening.has_ended
        assert isinstance(listening.received, ReceivedAudio)
        assert listening.received.take() == b"AB"
        assert not await waiters.wait(listening, 0.01)
