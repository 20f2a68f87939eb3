"""The limit of an owner's concurrent previews."""

import asyncio
from random import Random

import pytest

from functions.background import sweep
from pipeline.access.owners import new_id
from pipeline.audio.wav import WAV
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout
from pipeline.contract.records import Request, Source
from pipeline.domain import acceptance, jobs
from pipeline.errors import QuotaStatus, TooMany, Unavailable
from pipeline.settings import Settings
from tests.support.fake_service import Crash, FakeService
from tests.support.fakes.clock import EPOCH
from tests.support.fakes.switch import RandomOrder

OWNER = "alice"


def fakes(limit: int) -> FakeService:
    return FakeService(Settings().model_copy(update={"previews_in_flight": limit}))


def built(of: FakeService, owner: str | None = OWNER, kind: str = "preview") -> Request:
    return Request.model_validate(
        {
            "job_id": new_id(of.resources.new_id, owner),
            "kind": kind,
            "source": Source(voice_id="nova", owner=owner),
            "reference_id": "nova",
            "text": "Hello.",
            "created_at": of.time(),
        }
    )


async def accepted(of: FakeService, owner: str | None = OWNER, kind: str = "preview") -> Request:
    of.advance(milliseconds=1)
    request = built(of, owner, kind)
    await acceptance.accept(of.resources, request)
    return request


async def is_refused(of: FakeService) -> bool:
    try:
        await accepted(of)
    except TooMany:
        return True
    return False


def marked(of: FakeService) -> set[str]:
    return {layout.job_id_in_flight(key) for key in of.keys(layout.IN_FLIGHT)}


async def unended(of: FakeService) -> set[str]:
    return {job_id async for job_id in jobs.unfinished(of.resources, since=EPOCH, until=of.time())}


async def swept(of: FakeService) -> int:
    return (await sweep.handle(of.resources, {}))["in_flight"]


async def test_preview_counts_until_end() -> None:
    here = fakes(2)
    first, second = await accepted(here), await accepted(here)
    assert here.keys(layout.IN_FLIGHT) == [layout.in_flight(OWNER, job.job_id) for job in (first, second)]
    assert await is_refused(here)
    await here.succeed(first)
    assert not await is_refused(here)
    await here.fail(second)
    assert not await is_refused(here)
    assert await is_refused(here)


async def test_refused_preview_stores_nothing() -> None:
    here = fakes(1)
    await accepted(here)
    before, sent = here.keys(), here.synthesis.bodies
    with pytest.raises(TooMany, match="Limit of 1 concurrent previews") as caught:
        await accepted(here)
    assert caught.value.quota_status == QuotaStatus("previews", 1, 0, unit="concurrent-requests")
    assert caught.value.retry_after
    assert here.keys() == before
    assert here.synthesis.bodies == sent


async def test_refused_preview_stores_no_upload() -> None:
    here = fakes(1)
    await accepted(here)
    before = here.keys()
    with pytest.raises(TooMany):
        await acceptance.accept(
            here.resources, built(here), [NewObject("audio/uploads/x/source.wav", b"RIFF", WAV)]
        )
    assert here.keys() == before


async def test_limit_is_per_owner() -> None:
    here = fakes(1)
    await accepted(here, "alice")
    await accepted(here, "bob")
    assert await is_refused(here)


async def test_no_marker_without_owner() -> None:
    here = fakes(1)
    for request in [
        await accepted(here, None),
        await accepted(here, None),
        await accepted(here, OWNER, "embedding"),
    ]:
        await here.succeed(request)
    assert here.keys(layout.IN_FLIGHT) == []
    assert not {"list", "delete"} & set(here.bucket.switch.calls)
    assert here.synthesis.groups == [None, None, OWNER]


async def test_no_marker_without_limit() -> None:
    here = fakes(0)
    for _ in range(5):
        await accepted(here)
    assert here.keys(layout.IN_FLIGHT) == []


async def test_message_group_is_owner() -> None:
    here = fakes(5)
    await accepted(here, "alice")
    await accepted(here, "bob")
    assert here.synthesis.groups == ["alice", "bob"]


@pytest.mark.parametrize("seed", range(30))
async def test_concurrent_previews_within_limit(seed: int) -> None:
    here, random = fakes(5), Random(seed)
    for _ in range(random.randrange(5)):
        await accepted(here)
    here.bucket.switch = RandomOrder(random)
    requests = [built(here) for _ in range(12)]
    random.shuffle(requests)  # the oldest need not come first
    results = await asyncio.gather(
        *(acceptance.accept(here.resources, request) for request in requests), return_exceptions=True
    )
    assert {type(result) for result in results} <= {type(None), TooMany}
    assert len(here.keys(layout.IN_FLIGHT)) == len(here.synthesis.bodies) <= 5


async def test_concurrent_previews_reach_limit() -> None:
    here = fakes(5)
    requests = [built(here) for _ in range(40)]
    await asyncio.gather(
        *(acceptance.accept(here.resources, request) for request in requests), return_exceptions=True
    )
    assert len(here.synthesis.bodies) == 5


async def test_ended_preview_with_marker() -> None:
    here = fakes(2)
    first, second = await accepted(here), await accepted(here)
    await here.succeed(second)
    await here.bucket.put(layout.in_flight(OWNER, second.job_id), b"{}", JSON)
    assert not await is_refused(here)
    assert await is_refused(here)
    assert (await jobs.read(here.resources, OWNER, first.job_id)).status == "queued"


async def test_overdue_preview_does_not_count() -> None:
    here = fakes(1)
    await accepted(here)
    here.advance(minutes=59)
    assert await is_refused(here)
    here.advance(minutes=1)
    assert not await is_refused(here)


async def test_unsent_job_does_not_count() -> None:
    here = fakes(1)
    here.synthesis.switch.is_up = False
    with pytest.raises(Unavailable):
        await accepted(here)
    assert [key for key in here.keys("") if not key.startswith(layout.DERIVED)] == []


async def test_storage_outage_at_every_step() -> None:
    for calls in range(8):
        here = fakes(1)
        here.fail_after(calls, Unavailable)
        try:
            await accepted(here)
        except Unavailable:
            assert here.synthesis.bodies == []
        else:
            assert calls >= 4
        here.recover()
        here.advance(minutes=6)
        await swept(here)
        assert marked(here) == await unended(here)


async def test_outcome_survives_marker_failure() -> None:
    here = fakes(1)
    request = await accepted(here)
    failed = jobs.failure(request, Unavailable("It was not to be."), here.time())
    here.fail_after(1, Unavailable)
    assert await jobs.write_outcome(here.resources, failed)
    here.recover()
    assert not await jobs.write_outcome(here.resources, failed)
    assert here.keys(layout.IN_FLIGHT) == []


async def test_sweep_deletes_stale_markers() -> None:
    for calls in range(7):
        here = fakes(5)
        alive = await accepted(here)
        here.fail_after(calls)
        try:
            request = await accepted(here)
            await here.succeed(request)
        except Crash:
            pass
        here.recover()
        here.advance(minutes=4)
        assert await swept(here) == 0
        here.advance(minutes=1)
        await swept(here)
        assert alive.job_id in marked(here)
        assert marked(here) == await unended(here)


async def test_sweep_fails_overdue_job() -> None:
    here = fakes(1)
    await accepted(here)
    here.advance(minutes=61)
    await swept(here)
    assert here.keys(layout.IN_FLIGHT) == []


async def test_sweep_lists_old_markers_only() -> None:
    here = fakes(5)
    await accepted(here)
    here.recover()
    await swept(here)
    lists = here.bucket.switch.count("list")
    here.advance(minutes=5)
    here.recover()
    await swept(here)
    assert here.bucket.switch.count("list") == lists + 1
    assert here.bucket.switch.count("read") == 1  # of the last sweep
    assert here.bucket.switch.count("head") == 0
    assert len(here.keys(layout.IN_FLIGHT)) == 1


async def test_sweep_ignores_other_objects() -> None:
    here = fakes(5)
    await here.bucket.put("in-flight/README.txt", b"", "text/plain")
    here.advance(days=1)
    assert await swept(here) == 0
    assert here.keys("in-flight/") == ["in-flight/README.txt"]
