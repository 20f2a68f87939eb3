"""Verification of chains of audit entries after tampering."""

import pytest

from pipeline.access.audit import chain
from pipeline.access.audit.entries import record
from pipeline.access.audit.verification import BrokenChain, verify
from pipeline.contract import layout
from tests.support.fake_service import FakeService


async def written(objects: int = 4, owner: str | None = None) -> FakeService:
    """Return a service with one entry in each object of the chain."""
    fakes = FakeService()
    for count in range(objects):
        await record(fakes.resources, owner, "used", f"v{count}")
        await chain.append_all_pending(fakes.resources)
        fakes.advance(days=1)
    return fakes


def key(sequence: int, name: str = "_") -> str:
    return layout.audit_object(name, sequence)


async def change(fakes: FakeService, sequence: int, old: bytes, new: bytes) -> None:
    body = fakes.audit.objects[key(sequence)].body
    assert old in body
    await fakes.audit.put(key(sequence), body.replace(old, new), chain.JSON_LINES)


async def fault(fakes: FakeService) -> str:
    with pytest.raises(BrokenChain) as broken:
        await verify(fakes.resources, "_")
    return str(broken.value)


async def test_unchanged_chain() -> None:
    head = await verify((await written()).resources, "_")
    assert head is not None
    assert (head.chain, head.sequence) == ("_", 4)
    assert await verify((await written(0)).resources, "_") is None


async def test_edited_entry() -> None:
    fakes = await written()
    await change(fakes, 2, b'"v1"', b'"v9"')
    assert await fault(fakes) == "Chain _, entry 3: the entry before it has changed."


async def test_damaged_entry() -> None:
    fakes = await written()
    await change(fakes, 2, b"{", b"")
    assert await fault(fakes) == "Chain _, entry 2: it can't be parsed."


async def test_removed_entry() -> None:
    fakes = await written()
    await fakes.audit.delete([key(2)])
    assert await fault(fakes) == "Chain _, entry 3: it follows entry 1."


async def test_exchanged_entries() -> None:
    fakes = await written()
    second, third = (fakes.audit.objects[key(number)].body for number in (2, 3))
    await fakes.audit.put(key(2), third, chain.JSON_LINES)
    await fakes.audit.put(key(3), second, chain.JSON_LINES)
    assert await fault(fakes) == "Chain _, entry 2: it is entry 3 of _."


async def test_inserted_line() -> None:
    fakes = await written()
    body = fakes.audit.objects[key(2)].body
    await fakes.audit.put(key(2), body + body, chain.JSON_LINES)
    assert await fault(fakes) == "Chain _, entry 3: it is entry 2 of _."


async def test_entry_of_other_owner() -> None:
    fakes = await written(owner="alice")
    await fakes.audit.put(key(1), fakes.audit.objects[key(1, "alice")].body, chain.JSON_LINES)
    assert await fault(fakes) == "Chain _, entry 1: it is entry 1 of alice."


async def test_removed_first_entries() -> None:
    fakes = await written()
    await fakes.audit.delete([key(1), key(2)])
    assert (await fault(fakes)).endswith("the entries before it are missing and have not expired.")
    fakes.advance(days=1091)  # entry 2 expires a day after this moment
    assert "are missing" in await fault(fakes)
    fakes.advance(days=1)
    assert await verify(fakes.resources, "_")


async def test_removed_last_entries_need_known_head() -> None:
    fakes = await written()
    known = await verify(fakes.resources, "_")
    await fakes.audit.delete([key(3), key(4)])
    assert await verify(fakes.resources, "_")  # a shorter chain is a valid chain
    with pytest.raises(BrokenChain, match="entry 3: entries up to 4 are missing"):
        await verify(fakes.resources, "_", known)


async def test_edited_last_entry_needs_known_head() -> None:
    fakes = await written()
    known = await verify(fakes.resources, "_")
    await change(fakes, 4, b'"v3"', b'"v9"')
    assert await verify(fakes.resources, "_")
    with pytest.raises(BrokenChain, match="entry 4: it has changed since it was verified"):
        await verify(fakes.resources, "_", known)


async def test_removed_chain_needs_known_head() -> None:
    fakes = await written()
    known = await verify(fakes.resources, "_")
    await fakes.audit.delete(list(fakes.audit.objects))
    with pytest.raises(BrokenChain, match="entry 1: entries up to 4 are missing"):
        await verify(fakes.resources, "_", known)
    fakes.advance(days=1095)
    assert await verify(fakes.resources, "_", known) is None


async def test_chain_continues_after_damage() -> None:
    fakes = await written()
    await change(fakes, 4, b"{", b"")
    await record(fakes.resources, None, "deleted", "v0")
    await chain.append_pending(fakes.resources, "_")
    assert await fault(fakes) == "Chain _, entry 4: it can't be parsed."
