"""A sweep deletes what has expired, nothing else, and costs what has expired, not what is stored."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from functions.background import sweep
from pipeline.access import ws_tickets
from pipeline.access.api_keys import ANONYMOUS
from pipeline.clients.storage import JSON, ObjectInfo
from pipeline.contract import layout, retention
from pipeline.contract.records import Failed, LastSweep, ReplyTo
from pipeline.domain import jobs, voice_changes
from pipeline.errors import Unavailable
from tests.support.fake_service import Crash, FakeService
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import EPOCH, FakeTime


async def swept(fakes: FakeService) -> dict[str, int]:
    return await sweep.handle(fakes.resources, {})


def left(fakes: FakeService) -> list[str]:
    """Return the stored keys without the record of the sweep itself."""
    stored = fakes.keys()
    return [key for key in stored if key != layout.LAST_SWEEP]


async def test_sweep_writes_record() -> None:
    fakes = FakeService()
    await fakes.session()
    fakes.advance(hours=12)
    went = await swept(fakes)
    last = LastSweep.model_validate_json(fakes.bucket.objects[layout.LAST_SWEEP].body)
    assert (last.at, last.swept) == (fakes.time(), went)
    assert went["uploads"] == 3


async def test_objects_expire_on_time() -> None:
    fakes = FakeService()
    request = await fakes.job()
    connection = ReplyTo(endpoint="", connection_id="c=", connected_at=EPOCH)
    await fakes.bucket.put(layout.connection(connection), b'{"session_id": "s"}', JSON)
    await fakes.succeed(request)
    await ws_tickets.issue(fakes.resources, ANONYMOUS)
    await fakes.bucket.put(layout.subscriber(request.job_id, "c"), b"{}", JSON)
    for prefix, lifetime, count in [
        (layout.TICKETS, timedelta(seconds=60), 1),
        (layout.PREVIEWS, timedelta(minutes=20), 1),
        (layout.CONNECTIONS, timedelta(hours=2), 1),
        (layout.UPLOADS, timedelta(hours=12), 3),
        (layout.JOBS, timedelta(hours=24), 3),
        (layout.DERIVED, timedelta(hours=48), 1),  # by whole days
    ]:
        fakes.time.now = EPOCH + lifetime - timedelta(milliseconds=1)
        before = left(fakes)
        assert sum((await swept(fakes)).values()) == 0
        assert left(fakes) == before
        fakes.time.now += timedelta(milliseconds=1)
        assert sum((await swept(fakes)).values()) == count
        assert fakes.keys(prefix) == []
    assert left(fakes) == []


async def test_saved_voices_are_kept() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    fakes.advance(days=3650)
    await swept(fakes)
    assert len(fakes.voice_keys()) == 4


async def test_sweep_with_one_bucket() -> None:
    fakes = FakeService()
    fakes.voices.objects = fakes.bucket.objects
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    fakes.advance(days=3650)
    await swept(fakes)
    assert len(fakes.keys(layout.VOICES)) == len(left(fakes)) == 4


async def test_preview_expires_from_completion() -> None:
    fakes = FakeService()
    early, late = await fakes.job(), await fakes.job()
    await fakes.succeed(early)
    fakes.advance(minutes=30)
    await fakes.succeed(late)
    assert (await swept(fakes))["previews"] == 1
    assert fakes.keys(layout.PREVIEWS) == [layout.preview(late.job_id)]
    fakes.advance(minutes=20)
    assert (await swept(fakes))["previews"] == 1


async def test_unknown_objects_are_kept() -> None:
    fakes = FakeService()
    foreign = [
        "README.txt",
        "audio/uploads/README.txt",
        "audio/uploads/somebody/source.wav",
        "audio/previews/README.txt",
        "audio/previewsomething.wav",
        "jobs/README.txt",
        "jobs-of-mine/x",
        "tickets/README.txt",
        "idempotency/README.txt",
        "logs/2020.txt",
    ]
    for key in foreign:
        await fakes.bucket.put(key, b"", "text/plain")
    request = await fakes.job()
    await fakes.succeed(request)
    fakes.advance(days=400)
    await swept(fakes)
    assert left(fakes) == sorted(foreign)


async def test_sweep_cost_follows_expired() -> None:
    fakes = FakeService()
    for _ in range(150):
        await fakes.succeed(await fakes.job())
        fakes.advance(seconds=1)
    fakes.recover()
    await swept(fakes)
    assert fakes.bucket.switch.count("list") <= 17
    assert fakes.bucket.switch.count("delete") <= 1
    assert fakes.bucket.switch.count("read") == 1


async def test_listing_stops_at_first_new() -> None:
    fakes = FakeService()
    old = await fakes.session("", embedded=False)
    fakes.advance(hours=11)
    for _ in range(50):
        await fakes.session("", embedded=False)
    fakes.advance(hours=1)
    counting = Listed(fakes.time)
    counting.objects = fakes.bucket.objects
    assert (await sweep.handle(replace(fakes.resources, bucket=counting), {}))["uploads"] == 1
    assert len([key for key in counting.listed if key.startswith(layout.UPLOADS)]) == 2
    assert fakes.keys(layout.session(old).folder) == []


class Listed(FakeBucket):
    """Notes every key that a listing has given."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__(time)
        self.listed: list[str] = []

    async def list(self, prefix: str, *, start_after: str = "", page_size: int = 1000) -> AsyncIterator[ObjectInfo]:
        async for item in super().list(prefix, start_after=start_after):
            self.listed.append(item.key)
            yield item


async def test_sweep_pings_queue() -> None:
    fakes = FakeService()
    await sweep.handle(fakes.resources, {})
    assert fakes.synthesis.switch.calls == ["ping"]


async def test_sweep_queue_unavailable() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.synthesis.switch.is_up = False
    fakes.advance(hours=13)
    await sweep.handle(fakes.resources, {})
    assert not fakes.keys(f"audio/uploads/{session_id}")


async def test_sweep_deletes_in_batches() -> None:
    fakes = FakeService()
    for _ in range(2100):
        await fakes.bucket.put(layout.request(fakes.resources.new_id()), b"{}", JSON)
    fakes.advance(hours=24)
    fakes.recover()
    assert (await swept(fakes))["jobs"] == 2100
    assert left(fakes) == []
    assert fakes.bucket.switch.count("delete") == 3 + 1  # without changes


async def test_overdue_job_fails_once() -> None:
    fakes = FakeService()
    overdue = await fakes.job()
    fakes.advance(minutes=1)
    in_time = await fakes.job()
    fakes.time.now = retention.job_deadline(overdue.job_id, fakes.resources.settings) + timedelta(milliseconds=1)
    assert (await swept(fakes))["overdue_jobs"] == 1
    assert (await swept(fakes))["overdue_jobs"] == 0
    outcome = await jobs.read_outcome(fakes.resources, overdue.job_id)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.correlation_id) == ("deadline_exceeded", "corr-1")
    assert await jobs.read_outcome(fakes.resources, in_time.job_id) is None


async def test_overdue_keeps_existing_outcome() -> None:
    fakes = FakeService()
    request = await fakes.job()
    succeeded = await fakes.succeed(request)
    fakes.advance(minutes=61)
    assert (await swept(fakes))["overdue_jobs"] == 0
    assert await jobs.read_outcome(fakes.resources, request.job_id) == succeeded


async def test_sweep_after_missed_ones() -> None:
    fakes = FakeService()
    await fakes.job()
    fakes.advance(minutes=74)
    assert (await swept(fakes))["overdue_jobs"] == 1


async def test_overdue_after_day_without_sweeps() -> None:
    fakes = FakeService()
    await swept(fakes)
    request = await fakes.job()
    fakes.advance(hours=23)
    assert (await swept(fakes))["overdue_jobs"] == 1
    assert isinstance(await jobs.read_outcome(fakes.resources, request.job_id), Failed)


async def test_sweep_damaged_request() -> None:
    fakes = FakeService()
    damaged, overdue = await fakes.job(), await fakes.job()
    await fakes.bucket.put(layout.request(damaged.job_id), b"{", JSON)
    fakes.advance(minutes=61)
    assert (await swept(fakes))["overdue_jobs"] == 1
    assert await jobs.read_outcome(fakes.resources, overdue.job_id)


async def test_sweep_completes_changes() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(10)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.recover()
    fakes.advance(minutes=10)
    assert (await swept(fakes))["voice_changes"] == 1
    assert fakes.voice_keys() == []


async def test_sweep_storage_unavailable() -> None:
    fakes = FakeService()
    await fakes.succeed(await fakes.job())
    fakes.advance(hours=24)
    for calls in range(1, 13):
        fakes.fail_after(calls, Unavailable)
        with pytest.raises(Unavailable):
            await swept(fakes)
        fakes.recover()
    await swept(fakes)
    assert left(fakes) == fakes.keys(layout.DERIVED)


async def test_sweep_damaged_change() -> None:
    fakes = FakeService()
    await fakes.bucket.put(layout.change(fakes.resources.new_id()), b"{", JSON)
    session_id = await fakes.session()
    fakes.fail_after(10)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.recover()
    fakes.advance(minutes=90)
    assert (await swept(fakes))["voice_changes"] == 1
    assert fakes.voice_keys() == []


class DamagedListing(FakeBucket):
    """Can't list one folder."""

    damaged = layout.PREVIEWS

    async def list(self, prefix: str, *, start_after: str = "", page_size: int = 1000) -> AsyncIterator[ObjectInfo]:
        if prefix == self.damaged:
            raise ValueError("damaged")
        async for item in super().list(prefix, start_after=start_after):
            yield item


async def test_failed_task_is_reported() -> None:
    fakes = FakeService()
    await fakes.job()
    bucket = DamagedListing(fakes.time)
    bucket.objects = fakes.bucket.objects
    fakes.advance(hours=25)
    with pytest.raises(Unavailable, match="Not swept: previews"):
        await sweep.handle(replace(fakes.resources, bucket=bucket), {})
    assert fakes.keys() == fakes.keys(layout.DERIVED)
