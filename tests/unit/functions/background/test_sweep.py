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
from pipeline.contract.records import Failed, LastSweep
from pipeline.domain import jobs, voice_changes
from pipeline.errors import Unavailable
from tests.fakes import EPOCH, FakeBucket, FakeTime
from tests.world import Crash, World


async def swept(world: World) -> dict[str, int]:
    return await sweep.handle(world.resources, {})


def left(world: World) -> list[str]:
    """Return the stored keys without the record of the sweep itself."""
    stored = world.keys()
    return [key for key in stored if key != layout.LAST_SWEEP]


async def test_a_sweep_leaves_word_of_itself() -> None:
    world = World()
    await world.session()
    world.later(hours=12)
    went = await swept(world)
    last = LastSweep.model_validate_json(world.bucket.objects[layout.LAST_SWEEP].body)
    assert (last.at, last.swept) == (world.time(), went)
    assert went["uploads"] == 3


async def test_each_thing_goes_at_its_moment_and_not_before() -> None:
    world = World()
    request = await world.job()
    await world.bucket.put(layout.connection("c="), b'{"session_id": "s"}', JSON)
    await world.succeed(request)
    await ws_tickets.issue(world.resources, ANONYMOUS)
    await world.bucket.put(layout.subscriber(request.job_id, "c"), b"{}", JSON)
    for prefix, lifetime, count in [
        (layout.TICKETS, timedelta(seconds=60), 1),
        (layout.PREVIEWS, timedelta(minutes=20), 1),
        (layout.CONNECTIONS, timedelta(hours=2), 1),
        (layout.UPLOADS, timedelta(hours=12), 3),
        (layout.JOBS, timedelta(hours=24), 3),
    ]:
        world.time.now = EPOCH + lifetime - timedelta(milliseconds=1)
        before = left(world)
        assert sum((await swept(world)).values()) == 0
        assert left(world) == before
        world.time.now += timedelta(milliseconds=1)
        assert sum((await swept(world)).values()) == count
        assert world.keys(prefix) == []
    assert left(world) == []


async def test_saved_voices_are_never_swept() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(), "Nova")
    world.later(days=3650)
    await swept(world)
    assert len(world.voice_keys()) == 4


async def test_one_bucket_may_hold_both() -> None:
    world = World()
    world.voices.objects = world.bucket.objects
    await voice_changes.save(world.resources, None, await world.session(), "Nova")
    world.later(days=3650)
    await swept(world)
    assert len(world.keys(layout.VOICES)) == len(left(world)) == 4


async def test_a_preview_lives_from_its_completion_not_from_its_request() -> None:
    world = World()
    early, late = await world.job(), await world.job()
    await world.succeed(early)
    world.later(minutes=30)
    await world.succeed(late)
    assert (await swept(world))["previews"] == 1
    assert world.keys(layout.PREVIEWS) == [layout.preview(late.job_id)]
    world.later(minutes=20)
    assert (await swept(world))["previews"] == 1


async def test_what_is_not_ours_is_let_be() -> None:
    world = World()
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
        await world.bucket.put(key, b"", "text/plain")
    request = await world.job()
    await world.succeed(request)
    world.later(days=400)
    await swept(world)
    assert left(world) == sorted(foreign)


async def test_a_sweep_costs_what_has_expired_not_what_is_stored() -> None:
    world = World()
    for _ in range(150):
        await world.succeed(await world.job())
        world.later(seconds=1)
    world.mend()
    await swept(world)
    assert world.bucket.switch.count("list") <= 10
    assert world.bucket.switch.count("delete") <= 10
    assert world.bucket.switch.count("read") == 0


async def test_a_listing_stops_at_the_first_that_is_too_young() -> None:
    world = World()
    old = await world.session("", embedded=False)
    world.later(hours=11)
    for _ in range(50):
        await world.session("", embedded=False)
    world.later(hours=1)
    counting = Listed(world.time)
    counting.objects = world.bucket.objects
    assert (await sweep.handle(replace(world.resources, bucket=counting), {}))["uploads"] == 1
    assert len([key for key in counting.listed if key.startswith(layout.UPLOADS)]) == 2
    assert world.keys(layout.session(old).folder) == []


class Listed(FakeBucket):
    """Notes every key that a listing has given."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__(time)
        self.listed: list[str] = []

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        async for item in super().list(prefix, start_after=start_after):
            self.listed.append(item.key)
            yield item


async def test_every_sweep_asks_the_queue_so_that_its_metrics_never_rest() -> None:
    world = World()
    await sweep.handle(world.resources, {})
    assert world.synthesis.switch.calls == ["ping"]


async def test_a_queue_that_is_away_does_not_stop_the_sweep() -> None:
    world = World()
    session_id = await world.session()
    world.synthesis.switch.is_up = False
    world.later(hours=13)
    await sweep.handle(world.resources, {})
    assert not world.keys(f"audio/uploads/{session_id}")


async def test_thousands_go_in_batches() -> None:
    world = World()
    for _ in range(2100):
        await world.bucket.put(layout.request(world.resources.new_id()), b"{}", JSON)
    world.later(hours=24)
    world.mend()
    assert (await swept(world))["jobs"] == 2100
    assert left(world) == []
    assert world.bucket.switch.count("delete") == 3 + 8


async def test_an_overdue_job_is_ended_once() -> None:
    world = World()
    overdue = await world.job()
    world.later(minutes=1)
    in_time = await world.job()
    world.time.now = retention.job_deadline(overdue.job_id, world.resources.settings) + timedelta(milliseconds=1)
    assert (await swept(world))["overdue_jobs"] == 1
    assert (await swept(world))["overdue_jobs"] == 0
    outcome = await jobs.read_outcome(world.resources, overdue.job_id)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.correlation_id) == ("deadline_exceeded", "corr-1")
    assert await jobs.read_outcome(world.resources, in_time.job_id) is None


async def test_an_outcome_that_came_first_stands() -> None:
    world = World()
    request = await world.job()
    succeeded = await world.succeed(request)
    world.later(minutes=61)
    assert (await swept(world))["overdue_jobs"] == 0
    assert await jobs.read_outcome(world.resources, request.job_id) == succeeded


async def test_some_missed_sweeps_do_no_harm() -> None:
    world = World()
    await world.job()
    world.later(minutes=74)
    assert (await swept(world))["overdue_jobs"] == 1


async def test_a_damaged_request_does_not_stop_the_sweep() -> None:
    world = World()
    damaged, overdue = await world.job(), await world.job()
    await world.bucket.put(layout.request(damaged.job_id), b"{", JSON)
    world.later(minutes=61)
    assert (await swept(world))["overdue_jobs"] == 1
    assert await jobs.read_outcome(world.resources, overdue.job_id)


async def test_a_sweep_finishes_what_died() -> None:
    world = World()
    session_id = await world.session()
    world.blow_after(7)
    with pytest.raises(Crash):
        await voice_changes.save(world.resources, None, session_id, "Nova")
    world.mend()
    world.later(minutes=10)
    assert (await swept(world))["voice_changes"] == 1
    assert world.voice_keys() == []


async def test_a_sweep_that_can_not_reach_the_storage_says_so_and_the_next_does_its_work() -> None:
    world = World()
    await world.succeed(await world.job())
    world.later(hours=24)
    for calls in range(1, 13):
        world.blow_after(calls, Unavailable)
        with pytest.raises(Unavailable):
            await swept(world)
        world.mend()
    await swept(world)
    assert left(world) == []


async def test_an_unreadable_note_of_a_change_stops_neither_the_other_notes_nor_the_sweep() -> None:
    world = World()
    await world.bucket.put(layout.change(world.resources.new_id()), b"{", JSON)
    session_id = await world.session()
    world.blow_after(7)
    with pytest.raises(Crash):
        await voice_changes.save(world.resources, None, session_id, "Nova")
    world.mend()
    world.later(minutes=90)
    assert (await swept(world))["voice_changes"] == 1
    assert world.voice_keys() == []


class DamagedListing(FakeBucket):
    """Can't list one folder."""

    damaged = layout.PREVIEWS

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        if prefix == self.damaged:
            raise ValueError("damaged")
        async for item in super().list(prefix, start_after=start_after):
            yield item


async def test_a_task_that_fails_is_said_and_stops_no_other() -> None:
    world = World()
    await world.job()
    bucket = DamagedListing(world.time)
    bucket.objects = world.bucket.objects
    world.later(hours=25)
    with pytest.raises(Unavailable, match="Not swept: previews"):
        await sweep.handle(replace(world.resources, bucket=bucket), {})
    assert world.keys() == []
