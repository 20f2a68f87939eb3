"""The requests of a sweep depend on what has expired, not on what is stored."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from functions.background import sweep
from pipeline.access import rate_limits
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import ReplyTo
from pipeline.ids import id_maker
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import EPOCH

LIVE, EXPIRED = 10_000, 1_000
PER_PREFIX = 5

Key = Callable[[datetime, int], str]


def new_id(moment: datetime) -> str:
    return id_maker(lambda: moment)()


def connection(moment: datetime, number: int) -> str:
    return layout.connection(ReplyTo(endpoint="", connection_id=f"{number:x}=", connected_at=moment))


KEYS: dict[str, tuple[Key, timedelta]] = {
    "uploads": (lambda moment, _: layout.session(new_id(moment)).audio, timedelta(hours=12)),
    "previews": (lambda moment, _: layout.preview(new_id(moment)), timedelta(minutes=20)),
    "jobs": (lambda moment, _: layout.outcome(new_id(moment)), timedelta(hours=24)),
    "tickets": (lambda moment, _: layout.ticket(new_id(moment)), timedelta(minutes=1)),
    "connections": (connection, timedelta(hours=2)),
    "derived": (lambda moment, _: layout.derived_job("r", new_id(moment)), timedelta(hours=48)),
    "idempotency": (lambda moment, number: layout.idempotency(moment, str(number)), timedelta(hours=48)),
    "fingerprints": (lambda moment, _: layout.fingerprint("alice", new_id(moment)) + "000-A", timedelta(hours=48)),
    "listed_consents": (lambda moment, _: layout.listed_consent("alice", new_id(moment)), timedelta(hours=36)),
    "shares": (
        lambda moment, number: layout.quota(f"owner-{number}", "requests", moment),
        rate_limits.CLOCK_SKEW,
    ),
}


@pytest.mark.parametrize("name", KEYS)
async def test_requests_with_many_live_objects(name: str) -> None:
    fakes = FakeService()
    await sweep.handle(fakes.resources, {})
    idle = len(fakes.bucket.switch.calls)
    key, lifetime = KEYS[name]
    for number in range(EXPIRED):
        await fakes.bucket.put(key(EPOCH, number), b"", JSON)
    fakes.time.now = EPOCH + lifetime
    for number in range(LIVE):
        await fakes.bucket.put(key(fakes.time(), number), b"", JSON)
    fakes.recover()
    assert (await sweep.handle(fakes.resources, {}))[name] == EXPIRED
    assert len(fakes.bucket.switch.calls) <= idle + PER_PREFIX - 1
    assert len(fakes.keys()) == LIVE + 1
