"""Rate limits over many processes, and the number of storage calls that they need."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.background import sweep
from pipeline.access import rate_limits
from pipeline.access.rate_limits import REFERENCE_SECONDS, REQUESTS
from pipeline.access.stored_voices import check_quota
from pipeline.clients.resources import Resources
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract import layout
from pipeline.errors import QuotaStatus, StorageFull, TooMany, Unavailable
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import EPOCH, FakeTime
from tests.support.fakes.switch import RandomOrder, Switch

OWNER = "alice"
REQUESTS_KEY = layout.quota(OWNER, "requests", EPOCH + REQUESTS.window)


def fakes(**settings: int) -> FakeService:
    return FakeService(Settings().model_copy(update=settings))


def process(of: FakeService, bucket: FakeBucket | None = None) -> Resources:
    return replace(of.resources, usage=UsageWindows(bucket or of.bucket, of.time))


async def passes(shares: Resources, owner: str = OWNER) -> bool:
    try:
        await rate_limits.take_request(shares, owner)
    except TooMany:
        return False
    return True


async def passed(shares: Resources, tries: int) -> int:
    return sum([await passes(shares) for _ in range(tries)])


def counted(of: FakeService, key: str = REQUESTS_KEY) -> int:
    return int(of.bucket.objects[key].body.removeprefix(b'{"used":').removesuffix(b"}"))


async def test_no_owner_needs_no_storage() -> None:
    here = fakes(requests_per_minute=1, reference_seconds_per_hour=1, voices_per_owner=1)
    for _ in range(3):
        assert await rate_limits.take_request(process(here), None) is None
        assert await rate_limits.take_reference_seconds(process(here), None, 60) is None
        await check_quota(here.resources, None)
    assert here.bucket.switch.calls + here.voices.switch.calls == []


async def test_zero_is_unlimited() -> None:
    here = fakes(requests_per_minute=0, reference_seconds_per_hour=0, voices_per_owner=0)
    for _ in range(3):
        assert await rate_limits.take_request(process(here), OWNER) is None
        assert await rate_limits.take_reference_seconds(process(here), OWNER, 1e9) is None
        await check_quota(here.resources, OWNER)
    assert here.bucket.switch.calls + here.voices.switch.calls == []


@pytest.mark.parametrize("limit", [1, 2, 19, 20, 21, 600])
async def test_limit_of_one_process(limit: int) -> None:
    here = fakes(requests_per_minute=limit)
    assert await passed(process(here), limit + 5) == limit


async def test_work_counts_as_several_requests() -> None:
    here = fakes(requests_per_minute=10)
    shares = process(here)
    await rate_limits.take_request(shares, OWNER, 4)
    assert await passed(shares, 2) == 2
    with pytest.raises(TooMany):
        await rate_limits.take_request(shares, OWNER, 5)
    assert await passed(shares, 10) == 4
    here.advance(minutes=1)
    await rate_limits.take_request(shares, OWNER, 1000)  # at most half of the quota
    assert await passed(shares, 10) == 5


async def test_quota_status() -> None:
    here = fakes(requests_per_minute=3)
    shares = process(here)
    here.advance(seconds=22.5)
    standings = [await rate_limits.take_request(shares, OWNER) for _ in range(3)]
    assert standings == [QuotaStatus("requests", 3, left, 60, 38) for left in (2, 1, 0)]
    with pytest.raises(TooMany) as caught:
        await rate_limits.take_request(shares, OWNER)
    assert caught.value.quota_status == QuotaStatus("requests", 3, 0, 60, 38)
    assert caught.value.retry_after == 38
    assert caught.value.message == ("Limit of 3 requests a minute reached. Retry in 38 seconds.")


async def test_limit_is_renewed_each_minute() -> None:
    here = fakes(requests_per_minute=2)
    shares = process(here)
    assert await passed(shares, 5) == 2
    here.advance(seconds=59.999)
    assert not await passes(shares)
    here.advance(milliseconds=1)
    assert await passed(shares, 5) == 2


async def test_limits_are_per_owner() -> None:
    here = fakes(requests_per_minute=1)
    shares = process(here)
    assert await passes(shares, "alice")
    assert await passes(shares, "bob")
    assert not await passes(shares, "alice")


@pytest.mark.parametrize("seed", range(20))
async def test_limit_of_many_processes(seed: int) -> None:
    limit, here = 40, fakes(requests_per_minute=40)
    here.bucket.switch = RandomOrder(Random(seed))
    processes = [process(here) for _ in range(6)]
    results = await asyncio.gather(*(passes(shares) for shares in processes * 15))
    assert limit // 2 <= sum(results) <= limit
    assert counted(here) <= limit


@given(
    limit=st.integers(1, 100),
    who=st.lists(st.integers(0, 4), max_size=150),
)
async def test_process_holds_at_most_its_use(limit: int, who: list[int]) -> None:
    here = fakes(requests_per_minute=limit)
    processes = [process(here) for _ in range(5)]
    through = sum([await passes(processes[number]) for number in who])
    assert through <= limit
    if who:
        assert through <= counted(here) <= min(limit, 2 * through)


async def test_calls_of_one_process() -> None:
    here = fakes(requests_per_minute=600)
    shares = process(here)
    assert await passed(shares, 600) == 600
    spent = len(here.bucket.switch.calls)
    assert spent <= 30
    assert await passed(shares, 1000) == 0
    assert len(here.bucket.switch.calls) == spent


async def test_calls_of_many_processes() -> None:
    here = fakes(requests_per_minute=600)
    processes = [process(here) for _ in range(20)]
    for shares in processes * 60:
        await passes(shares)
    assert len(here.bucket.switch.calls) <= 20 * 20


async def test_calls_of_concurrent_processes() -> None:
    here = fakes(requests_per_minute=600)
    processes = [process(here) for _ in range(20)]
    await asyncio.gather(*(passed(shares, 60) for shares in processes))
    assert len(here.bucket.switch.calls) <= 20 * 50


async def test_concurrent_requests_share_block() -> None:
    here = fakes(requests_per_minute=600)
    shares = process(here)
    assert all(await asyncio.gather(*(passes(shares) for _ in range(100))))
    assert len(here.bucket.switch.calls) <= 12


async def test_held_requests_need_no_storage() -> None:
    here = fakes(requests_per_minute=600)
    shares = process(here)
    assert await passed(shares, 4) == 4  # of 1 + 2 + 4 taken
    here.bucket.switch.is_up = False
    assert await passed(shares, 3) == 3
    with pytest.raises(Unavailable):
        await rate_limits.take_request(shares, OWNER)
    here.recover()
    assert await passes(shares)


async def test_waiting_requests_fail_together() -> None:
    here = fakes(requests_per_minute=600)
    shares = process(here)
    here.bucket.switch.is_up = False
    results = await asyncio.gather(
        *(rate_limits.take_request(shares, OWNER) for _ in range(50)), return_exceptions=True
    )
    assert all(isinstance(result, Unavailable) for result in results)
    assert len(here.bucket.switch.calls) == 1
    with pytest.raises(Unavailable):  # a later task tries again
        await rate_limits.take_request(shares, OWNER)
    assert len(here.bucket.switch.calls) == 2


async def test_storage_refusing_writes() -> None:
    here = fakes(requests_per_minute=600)
    bucket = Refusing(here.time)
    with pytest.raises(Unavailable):
        await rate_limits.take_request(process(here, bucket), OWNER)
    assert len(bucket.switch.calls) < 200


class Refusing(FakeBucket):
    """Refuses every conditional write."""

    async def put_once(self, key: str, body: bytes, content_type: str, **more: Any) -> str | None:
        """See `Bucket.put_once`."""
        await self.switch.passed("put_once")
        return None


async def test_lost_response_counts_twice() -> None:
    here = fakes(requests_per_minute=10)
    bucket = LosingAnswers(here.time)
    shares = process(here, bucket)
    assert await passed(shares, 20) == 5
    assert bucket.objects[REQUESTS_KEY].body == b'{"used":10}'


class LosingAnswers(FakeBucket):
    """Repeats every other write although it succeeded, as a client does that received no response."""

    _calls = 0

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        """See `Bucket.replace`."""
        new = await super().replace(key, body, content_type, etag=etag)
        return self._sometimes(new)

    async def put_once(self, key: str, body: bytes, content_type: str, **more: Any) -> str | None:
        """See `Bucket.put_once`."""
        return self._sometimes(await super().put_once(key, body, content_type, **more))

    def _sometimes(self, etag: str | None) -> str | None:
        self._calls += 1
        return None if self._calls % 2 else etag


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"used":-1}', b'{"used":"x"}', b'{"used":null}', b"\xff"])
async def test_damaged_count_starts_at_zero(body: bytes) -> None:
    here = fakes(requests_per_minute=3)
    await here.bucket.put(REQUESTS_KEY, body, "application/json")
    assert await passed(process(here), 5) == 3


async def test_count_of_other_version() -> None:
    here = fakes(requests_per_minute=3)
    await here.bucket.put(REQUESTS_KEY, b'{"used": 1, "from": "the future"}', "application/json")
    assert await passed(process(here), 5) == 2


async def test_clock_set_back() -> None:
    here = fakes(requests_per_minute=40)
    shares = process(here)
    here.advance(seconds=59)
    assert await passed(shares, 50) == 40
    here.advance(seconds=1)
    assert await passed(shares, 4) == 4
    here.advance(seconds=-1)
    with pytest.raises(TooMany) as caught:
        await rate_limits.take_request(shares, OWNER)
    assert caught.value.retry_after == 1
    here.advance(seconds=1)
    assert 40 - 4 - 3 <= await passed(shares, 50) <= 40 - 4


async def test_reference_seconds_are_exact() -> None:
    here = fakes(reference_seconds_per_hour=1)
    one, other = process(here), process(here)
    for taken in range(10):
        quota_status = await rate_limits.take_reference_seconds((one, other)[taken % 2], OWNER, 0.1)
        assert quota_status == QuotaStatus("reference-seconds", 1, 0, 3600, 3600)
    with pytest.raises(TooMany):
        await rate_limits.take_reference_seconds(one, OWNER, 0.001)
    with pytest.raises(TooMany):
        await rate_limits.take_reference_seconds(other, OWNER, 0.001)


async def test_refused_recording_is_not_counted() -> None:
    here = fakes(reference_seconds_per_hour=100)
    shares = process(here)
    here.advance(minutes=59)
    quota_status = await rate_limits.take_reference_seconds(shares, OWNER, 60)
    assert quota_status == QuotaStatus("reference-seconds", 100, 40, 3600, 60)
    with pytest.raises(TooMany) as caught:
        await rate_limits.take_reference_seconds(shares, OWNER, 40.5)
    assert (caught.value.field, caught.value.retry_after, caught.value.quota_status) == ("audio", 60, quota_status)
    assert caught.value.message == (
        "Limit of 100 seconds of recordings an hour: 40 are left, and this one has 40.5. Retry in 60 seconds."
    )
    await rate_limits.take_reference_seconds(shares, OWNER, 40)
    here.advance(minutes=1)
    await rate_limits.take_reference_seconds(shares, OWNER, 100)


async def test_returned_seconds_are_available() -> None:
    here = fakes(reference_seconds_per_hour=10)
    one, other = process(here), process(here)
    await rate_limits.take_reference_seconds(one, OWNER, 10)
    await rate_limits.return_reference_seconds(one, OWNER, 4)
    assert counted(here, layout.quota(OWNER, "reference-seconds", EPOCH + REFERENCE_SECONDS.window)) == 6000
    await rate_limits.take_reference_seconds(other, OWNER, 4)
    await rate_limits.return_reference_seconds(one, OWNER, 60)  # counted once, returned twice
    assert counted(here, layout.quota(OWNER, "reference-seconds", EPOCH + REFERENCE_SECONDS.window)) == 0


async def test_uncounted_seconds_are_not_returned() -> None:
    for here, owner in ((fakes(reference_seconds_per_hour=0), OWNER), (fakes(reference_seconds_per_hour=10), None)):
        await rate_limits.return_reference_seconds(process(here), owner, 4)
        assert here.bucket.switch.calls == []


async def test_seconds_returned_by_another_process() -> None:
    here = fakes(reference_seconds_per_hour=100)
    one, other = process(here), process(here)
    await rate_limits.take_reference_seconds(one, OWNER, 50)
    await rate_limits.take_reference_seconds(other, OWNER, 50)
    with pytest.raises(TooMany):
        await rate_limits.take_reference_seconds(one, OWNER, 10)
    await rate_limits.return_reference_seconds(other, OWNER, 50)
    await rate_limits.take_reference_seconds(one, OWNER, 50)
    with pytest.raises(TooMany):
        await rate_limits.take_reference_seconds(one, OWNER, 1)


async def test_calls_of_a_recording() -> None:
    here = fakes()
    shares = process(here)
    await rate_limits.take_reference_seconds(shares, OWNER, 10)
    assert here.bucket.switch.calls == ["read", "put_once"]
    await rate_limits.take_reference_seconds(shares, OWNER, 10)
    assert here.bucket.switch.calls == ["read", "put_once", "replace"]


@pytest.mark.parametrize("seed", range(10))
async def test_concurrent_recordings(seed: int) -> None:
    here = fakes(reference_seconds_per_hour=100)
    here.bucket.switch = RandomOrder(Random(seed))
    takes = [rate_limits.take_reference_seconds(process(here), OWNER, 15) for _ in range(12)]
    results = await asyncio.gather(*takes, return_exceptions=True)
    assert sum(isinstance(result, QuotaStatus) for result in results) == 6
    assert all(isinstance(result, QuotaStatus | TooMany) for result in results)


async def test_voice_limit() -> None:
    here = fakes(voices_per_owner=2)
    for name in ("alice/nova", "bob/nova", "bob/zoe", "bob/kim"):
        await here.voices.put(f"{layout.VOICES}{name}/metadata.json", b"{}", "application/json")
    await check_quota(here.resources, "alice")
    await here.voices.put(f"{layout.voices('alice')}zoe/metadata.json", b"{}", "application/json")
    await check_quota(here.resources, "alice", except_for="zoe")
    with pytest.raises(TooMany, match="Limit of 2 saved voices") as caught:
        await check_quota(here.resources, "alice")
    assert caught.value.quota_status == QuotaStatus("voices", 2, 0)
    assert caught.value.retry_after


async def test_sweep_of_past_windows() -> None:
    here = fakes()
    shares = process(here)
    for owner in ("alice", "bob"):
        await rate_limits.take_request(shares, owner)
        await rate_limits.take_reference_seconds(shares, owner, 1)
    await here.bucket.put("shares/README.txt", b"", "text/plain")
    for window in (REQUESTS.window, REFERENCE_SECONDS.window):
        here.time.now = EPOCH + window + timedelta(minutes=2, milliseconds=-1)
        assert (await sweep.handle(here.resources, {}))["shares"] == 0
        here.advance(milliseconds=1)
        here.recover()
        assert (await sweep.handle(here.resources, {}))["shares"] == 2
    assert here.keys("shares/") == ["shares/README.txt"]


async def test_windows_are_aligned() -> None:
    time = FakeTime(EPOCH + timedelta(hours=5, minutes=17, seconds=30.5))
    assert REQUESTS.start(time()) == EPOCH + timedelta(hours=5, minutes=17)
    assert REFERENCE_SECONDS.start(time()) == EPOCH + timedelta(hours=5)


async def test_usage_record_has_no_spaces() -> None:
    """Reading and deleting must be possible; one process still allows no more than the limit."""
    here = fakes(requests_per_minute=5)
    quotas = process(here)
    assert await passes(quotas)
    here.bucket.switch = FullDisk()
    assert await passed(quotas, 10) == 4


class FullDisk(Switch):
    async def passed(self, call: str) -> None:
        await super().passed(call)
        if call in {"put", "put_once", "replace"}:
            raise StorageFull("no space")
