"""Claims of idempotency keys: owners, expiry and the sweep."""

from datetime import datetime, timedelta

import pytest

from functions.background import sweep
from pipeline.access import idempotency
from pipeline.contract import layout
from pipeline.errors import IdempotencyKeyReused, RequestInProgress
from tests.support.fake_service import FakeService

MIDNIGHT = datetime.fromisoformat("2026-01-02T00:00:00+00:00")


LEASE = timedelta(seconds=30)


async def test_key_belongs_to_owner() -> None:
    fakes = FakeService()
    for owner in (None, "alice", "bob"):
        claimed = await idempotency.claim(fakes.resources, owner, "k", f"of {owner}", lease=LEASE)
        assert isinstance(claimed, idempotency.Claim)


async def test_key_expires_after_a_day() -> None:
    fakes = FakeService()
    claim = await idempotency.claim(fakes.resources, None, "k", "one", lease=LEASE)
    assert isinstance(claim, idempotency.Claim)
    await claim.finish(idempotency.StoredAnswer(status=200, headers={}, body="{}"))
    fakes.advance(hours=24, seconds=-1)
    assert isinstance(
        await idempotency.claim(fakes.resources, None, "k", "one", lease=LEASE), idempotency.ClaimRecord
    )
    with pytest.raises(IdempotencyKeyReused):
        await idempotency.claim(fakes.resources, None, "k", "two", lease=LEASE)
    fakes.advance(seconds=1)
    assert isinstance(await idempotency.claim(fakes.resources, None, "k", "two", lease=LEASE), idempotency.Claim)


@pytest.mark.parametrize("seconds_behind", [0, 5])
async def test_key_survives_midnight_and_clock_skew(seconds_behind: float) -> None:
    fakes = FakeService()
    fakes.time.now = MIDNIGHT
    ahead = await idempotency.claim(fakes.resources, None, "k", "one", lease=LEASE)
    fakes.time.now = MIDNIGHT - timedelta(seconds=seconds_behind + 1)
    with pytest.raises(RequestInProgress):
        await idempotency.claim(fakes.resources, None, "k", "one", lease=LEASE)
    assert isinstance(ahead, idempotency.Claim)
    assert fakes.keys(layout.IDEMPOTENCY) == [ahead.key]


async def test_sweep_deletes_expired_days() -> None:
    fakes = FakeService()
    for hours in (0, 23, 24):
        fakes.advance(hours=hours)
        await idempotency.claim(fakes.resources, None, f"after {hours}", "x", lease=LEASE)
    fakes.advance(hours=2)
    swept = await sweep.handle(fakes.resources, {})
    assert swept["idempotency"] == 2
    assert len(fakes.keys(layout.IDEMPOTENCY)) == 1


async def test_recent_job_found_for_a_minute() -> None:
    fakes = FakeService()
    fakes.time.now = MIDNIGHT - timedelta(seconds=30)
    await idempotency.remember_job(fakes.resources, "alice", "fingerprint", "job")
    fakes.advance(seconds=59)
    assert await idempotency.recent_job(fakes.resources, "alice", "fingerprint") == "job"
    assert await idempotency.recent_job(fakes.resources, "bob", "fingerprint") is None
    assert await idempotency.recent_job(fakes.resources, "alice", "other") is None
    fakes.advance(seconds=1)
    assert await idempotency.recent_job(fakes.resources, "alice", "fingerprint") is None
