"""A ticket opens one socket, for whom it was issued, within its minute; nobody is told why one does not."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.access import ws_tickets
from pipeline.access.api_keys import ANONYMOUS, Caller
from pipeline.contract import layout
from pipeline.errors import Unauthorized, Unavailable
from pipeline.settings import Settings
from tests.fakes import EPOCH, FakeBucket
from tests.world import World

ALICE = Caller("alice", "0123456789ab", frozenset({"preview", "voices:write"}))


async def refusal(world: World, text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await ws_tickets.redeem(world.resources, text)
    return caught.value.message


@pytest.mark.parametrize("caller", [ALICE, ANONYMOUS])
async def test_a_ticket_stands_for_whom_it_was_issued(caller: Caller) -> None:
    world = World()
    text, expires_at = await ws_tickets.issue(world.resources, caller)
    assert expires_at == EPOCH + timedelta(seconds=60)
    assert await ws_tickets.redeem(world.resources, text) == caller


async def test_a_ticket_can_stand_in_an_address_and_is_not_stored() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    ticket_id, secret = text.split(".")
    assert secret.replace("-", "").replace("_", "").isalnum()
    assert len(secret) == 43
    assert world.keys() == [f"tickets/{ticket_id}.json"]
    assert secret not in world.bucket.objects[layout.ticket(ticket_id)].body.decode()


async def test_the_same_randomness_gives_the_same_secret() -> None:
    text, _ = await ws_tickets.issue(World().resources, ALICE, random=lambda count: b"\xff" * count)
    assert text.endswith("." + "_" * 42 + "8")


async def test_all_that_can_not_be_used_is_refused_alike() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    other, _ = await ws_tickets.issue(world.resources, ALICE)
    damaged, _ = await ws_tickets.issue(world.resources, ALICE)
    await world.bucket.put(layout.ticket(damaged.split(".")[0]), b"{}", "application/json")
    used, _ = await ws_tickets.issue(world.resources, ALICE)
    await ws_tickets.redeem(world.resources, used)
    unknown, _ = await ws_tickets.issue(World().resources, ALICE)
    wrong_secret = text.split(".")[0] + "." + other.split(".")[1]
    wrong = [unknown, used, damaged, wrong_secret, "", ".", text + "x", text + "\n", "0" * 32 + text[32:], "\ud800"]
    messages = {await refusal(world, one) for one in wrong}
    world.later(seconds=60)
    messages.add(await refusal(world, text))
    assert len(messages) == 1


async def test_anybodys_ticket_opens_nothing_where_keys_are_wanted() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ANONYMOUS)
    with pytest.raises(Unauthorized):
        await ws_tickets.redeem(world.with_settings(Settings(auth="keys")), text)


async def test_a_ticket_that_lost_its_owner_is_not_anybodys() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    key = layout.ticket(text.split(".")[0])
    ownerless = json.loads(world.bucket.objects[key].body)
    del ownerless["owner"]
    await world.bucket.put(key, json.dumps(ownerless).encode(), "application/json")
    await refusal(world, text)


async def test_a_ticket_serves_until_its_minute_is_over() -> None:
    world = World()
    text, expires_at = await ws_tickets.issue(world.resources, ALICE)
    world.time.now = expires_at - timedelta(milliseconds=1)
    assert await ws_tickets.redeem(world.resources, text) == ALICE


async def test_one_that_is_too_old_costs_no_look_up() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    world.later(seconds=60)
    await refusal(world, text)
    assert world.bucket.switch.count("read") == 0


async def test_of_many_at_once_one_succeeds() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    results = await asyncio.gather(
        *(ws_tickets.redeem(world.resources, text) for _ in range(32)), return_exceptions=True
    )
    assert results.count(ALICE) == 1
    assert sum(isinstance(result, Unauthorized) for result in results) == 31


async def test_a_try_with_a_wrong_secret_uses_nothing_up() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    await refusal(world, text[:-2] + ("AA" if text[-2:] != "AA" else "BB"))
    assert await ws_tickets.redeem(world.resources, text) == ALICE


class Forgetful(FakeBucket):
    """Makes the first conditional write, loses its answer, and refuses the client's second try."""

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        await super().replace(key, body, content_type, etag=etag)
        return None


async def test_a_lost_answer_loses_no_ticket_and_lets_nobody_else_in() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    bucket = Forgetful(world.time)
    bucket.objects = world.bucket.objects
    forgetful = replace(world.resources, bucket=bucket)
    results = await asyncio.gather(*(ws_tickets.redeem(forgetful, text) for _ in range(8)), return_exceptions=True)
    assert results.count(ALICE) == 1


async def test_without_storage_a_ticket_is_neither_good_nor_bad() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    world.bucket.switch.is_up = False
    with pytest.raises(Unavailable):
        await ws_tickets.redeem(world.resources, text)
    world.bucket.switch.is_up = True
    assert await ws_tickets.redeem(world.resources, text) == ALICE


async def test_what_is_stored_can_be_read_by_a_later_version() -> None:
    world = World()
    text, _ = await ws_tickets.issue(world.resources, ALICE)
    key = layout.ticket(text.split(".")[0])
    newer = json.loads(world.bucket.objects[key].body) | {"origin": "https://example.org"}
    await world.bucket.put(key, json.dumps(newer).encode(), "application/json")
    assert await ws_tickets.redeem(world.resources, text) == ALICE
