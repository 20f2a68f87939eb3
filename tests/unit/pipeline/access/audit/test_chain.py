"""Chains of audit entries: recording, concurrent and interrupted appending, reading."""

import asyncio
import json
import random
from typing import Any

import pytest

from pipeline.access.audit import chain
from pipeline.access.audit.entries import record
from pipeline.access.audit.verification import verify
from pipeline.contract import layout
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.support.fake_service import Crash, FakeService
from tests.support.fakes.switch import RandomOrder


async def entries(fakes: FakeService, name: str = "_") -> list[dict[str, Any]]:
    return [json.loads(line.body) async for line in chain.lines(fakes.resources, name)]


async def entry_ids(fakes: FakeService) -> list[str]:
    return [entry["entry_id"] for entry in await entries(fakes)]


async def test_append_links_entries() -> None:
    fakes = FakeService()
    for voice_id in ("ann", "bob"):
        await record(fakes.resources, None, "saved", voice_id, hashes={"recording": "00"})
        fakes.advance(seconds=1)
    assert await chain.append_pending(fakes.resources, "_") == 2
    await record(fakes.resources, None, "deleted", "ann")
    assert await chain.append_pending(fakes.resources, "_") == 1
    first, second, third = [line async for line in chain.lines(fakes.resources, "_")]
    assert [json.loads(line.body)["action"] for line in (first, second, third)] == ["saved", "saved", "deleted"]
    assert json.loads(first.body) == {
        "entry_id": (await entry_ids(fakes))[0],
        "at": "2026-01-01T00:00:00Z",
        "action": "saved",
        "voice_id": "ann",
        "hashes": {"recording": "00"},
        "sequence": 1,
    }
    assert [json.loads(line.body)["previous"] for line in (second, third)] == [first.digest, second.digest]
    assert fakes.keys(layout.AUDIT_PENDING) == []


async def test_record_without_log() -> None:
    fakes = FakeService(Settings(audit_retention_days=0))
    await record(fakes.resources, None, "saved", "ann")
    assert fakes.keys() == []


@pytest.mark.parametrize("seed", range(5))
async def test_concurrent_writers_keep_one_chain(seed: int) -> None:
    fakes = FakeService()
    order = random.Random(seed)

    async def write(number: int) -> None:
        for count in range(4):
            await record(fakes.resources, "alice", "used", f"v{number}-{count}")
            await chain.append_pending(fakes.resources, "alice", sleep=lambda _: asyncio.sleep(0))

    fakes.bucket.switch, fakes.audit.switch = RandomOrder(order), RandomOrder(order)
    await asyncio.gather(*(write(number) for number in range(8)))
    found = await entries(fakes, "alice")
    assert sorted(entry["voice_id"] for entry in found) == sorted(f"v{n}-{c}" for n in range(8) for c in range(4))
    head = await verify(fakes.resources, "alice")
    assert head is not None
    assert head.sequence == 32


async def test_append_gives_up_when_refused() -> None:
    fakes = FakeService()
    await record(fakes.resources, None, "saved", "ann")

    async def refused(*_: Any, **__: Any) -> None:
        return None

    async def no_pause(_: float) -> None:
        return None

    fakes.audit.put_once = refused  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await chain.append_pending(fakes.resources, "_", sleep=no_pause)
    assert len(fakes.keys(layout.AUDIT_PENDING)) == 1


async def test_crash_at_any_call_loses_no_entry() -> None:
    steps = 0
    while True:
        fakes = FakeService()
        await record(fakes.resources, None, "saved", "ann")
        await chain.append_pending(fakes.resources, "_")
        ids = [fakes.resources.new_id() for _ in range(3)]
        is_done = await _is_done(fakes, ids, steps)
        for id_ in ids:  # a redelivered event records the same entry again
            await record(fakes.resources, None, "used", "ann", entry_id=id_)
        fakes.advance(minutes=5)
        await chain.append_pending(fakes.resources, "_")
        assert sorted((await entry_ids(fakes))[1:]) == sorted(ids)
        assert await verify(fakes.resources, "_")
        assert fakes.keys(layout.AUDIT_PENDING) == []
        if is_done:
            break
        steps += 1
    assert steps >= 10


async def _is_done(fakes: FakeService, ids: list[str], steps: int) -> bool:
    fakes.fail_after(steps)
    try:
        for id_ in ids:
            await record(fakes.resources, None, "used", "ann", entry_id=id_)
        await chain.append_pending(fakes.resources, "_")
    except Crash:
        return False
    finally:
        fakes.recover()
    return True


async def test_lost_response_adds_no_duplicate() -> None:
    fakes = FakeService()
    await record(fakes.resources, None, "saved", "ann")
    put_once = fakes.audit.put_once

    async def loses_response(*arguments: Any, **more: Any) -> None:
        await put_once(*arguments, **more)

    fakes.audit.put_once = loses_response  # type: ignore[method-assign]
    await chain.append_pending(fakes.resources, "_", sleep=lambda _: asyncio.sleep(0))
    assert len(await entries(fakes)) == 1
    assert fakes.keys(layout.AUDIT_PENDING) == []


async def test_damaged_record_stays() -> None:
    fakes = FakeService()
    await record(fakes.resources, None, "saved", "ann")
    await fakes.bucket.put(layout.audit_pending("_", "0"), b"{", "application/json")
    assert await chain.append_pending(fakes.resources, "_") == 1
    assert fakes.keys(layout.AUDIT_PENDING) == [layout.audit_pending("_", "0")]


async def test_pages_contain_all_entries() -> None:
    fakes = FakeService()
    for owner in ("a", "a-b", "b"):
        for count in range(7):
            await record(fakes.resources, owner, "used", f"{owner}{count}")
            fakes.advance(seconds=1)
            if count in {2, 3}:
                await chain.append_all_pending(fakes.resources)
    await chain.append_all_pending(fakes.resources)
    names, found, after = await chain.chains(fakes.resources), b"", ""
    for _ in range(6):
        page = await chain.page(fakes.resources, names, limit=4, after=after)
        found, after = found + page.body, page.next_after or ""
    assert after == ""
    wanted = [f"{owner}{count}" for owner in ("a", "a-b", "b") for count in range(7)]
    assert [json.loads(line)["voice_id"] for line in found.splitlines()] == wanted


async def test_long_chain_spans_folders() -> None:
    fakes = FakeService()
    for count in range(1100):
        await record(fakes.resources, None, "used", f"v{count}")
    await chain.append_pending(fakes.resources, "_")
    await record(fakes.resources, None, "used", "last")
    await chain.append_pending(fakes.resources, "_")
    assert [json.loads(line.body)["sequence"] async for line in chain.lines(fakes.resources, "_", after=997)] == [
        *range(998, 1102)
    ]
    assert len(fakes.audit.objects) == 4
    assert await verify(fakes.resources, "_")


async def test_expired_entries_are_deleted() -> None:
    fakes = FakeService()
    for count in range(3):
        await record(fakes.resources, None, "used", f"v{count}")
        await chain.append_pending(fakes.resources, "_")
        fakes.advance(days=1)
    fakes.advance(days=1092)
    assert await chain.expire(fakes.resources) == 1
    assert [entry["voice_id"] for entry in await entries(fakes)] == ["v1", "v2"]
    assert await verify(fakes.resources, "_")
