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
from tests.support.fake_service import FakeService
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import EPOCH

ALICE = Caller("alice", "0123456789ab", frozenset({"preview", "voices:write"}))


async def refusal(fakes: FakeService, text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await ws_tickets.redeem(fakes.resources, text)
    return caught.value.message


@pytest.mark.parametrize("caller", [ALICE, ANONYMOUS])
async def test_ws_ticket_keeps_owner(caller: Caller) -> None:
    fakes = FakeService()
    text, expires_at = await ws_tickets.issue(fakes.resources, caller)
    assert expires_at == EPOCH + timedelta(seconds=60)
    assert await ws_tickets.redeem(fakes.resources, text) == caller


async def test_ws_ticket_fits_url_and_is_not_stored() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    ticket_id, secret = text.split(".")
    assert secret.replace("-", "").replace("_", "").isalnum()
    assert len(secret) == 43
    assert fakes.keys() == [f"tickets/{ticket_id}.json"]
    assert secret not in fakes.bucket.objects[layout.ticket(ticket_id)].body.decode()


async def test_ws_ticket_secret_is_deterministic() -> None:
    text, _ = await ws_tickets.issue(FakeService().resources, ALICE, random=lambda count: b"\xff" * count)
    assert text.endswith("." + "_" * 42 + "8")


async def test_ws_ticket_errors_are_equal() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    other, _ = await ws_tickets.issue(fakes.resources, ALICE)
    damaged, _ = await ws_tickets.issue(fakes.resources, ALICE)
    await fakes.bucket.put(layout.ticket(damaged.split(".")[0]), b"{}", "application/json")
    used, _ = await ws_tickets.issue(fakes.resources, ALICE)
    await ws_tickets.redeem(fakes.resources, used)
    unknown, _ = await ws_tickets.issue(FakeService().resources, ALICE)
    wrong_secret = text.split(".")[0] + "." + other.split(".")[1]
    wrong = [unknown, used, damaged, wrong_secret, "", ".", text + "x", text + "\n", "0" * 32 + text[32:], "\ud800"]
    messages = {await refusal(fakes, one) for one in wrong}
    fakes.advance(seconds=60)
    messages.add(await refusal(fakes, text))
    assert len(messages) == 1


async def test_anonymous_ws_ticket_needs_auth_none() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ANONYMOUS)
    with pytest.raises(Unauthorized):
        await ws_tickets.redeem(fakes.with_settings(Settings(auth="keys")), text)


async def test_ws_ticket_without_owner_fails() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    key = layout.ticket(text.split(".")[0])
    ownerless = json.loads(fakes.bucket.objects[key].body)
    del ownerless["owner"]
    await fakes.bucket.put(key, json.dumps(ownerless).encode(), "application/json")
    await refusal(fakes, text)


async def test_ws_ticket_expires_after_minute() -> None:
    fakes = FakeService()
    text, expires_at = await ws_tickets.issue(fakes.resources, ALICE)
    fakes.time.now = expires_at - timedelta(milliseconds=1)
    assert await ws_tickets.redeem(fakes.resources, text) == ALICE


async def test_old_ws_ticket_needs_no_lookup() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    fakes.advance(seconds=60)
    await refusal(fakes, text)
    assert fakes.bucket.switch.count("read") == 0


async def test_ws_ticket_concurrent_use() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    results = await asyncio.gather(
        *(ws_tickets.redeem(fakes.resources, text) for _ in range(32)), return_exceptions=True
    )
    assert results.count(ALICE) == 1
    assert sum(isinstance(result, Unauthorized) for result in results) == 31


async def test_ws_ticket_wrong_secret_keeps_it() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    await refusal(fakes, text[:-2] + ("AA" if text[-2:] != "AA" else "BB"))
    assert await ws_tickets.redeem(fakes.resources, text) == ALICE


class Forgetful(FakeBucket):
    """Makes the first conditional write, loses its answer, and refuses the client's second try."""

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        await super().replace(key, body, content_type, etag=etag)
        return None


async def test_ws_ticket_lost_response() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    bucket = Forgetful(fakes.time)
    bucket.objects = fakes.bucket.objects
    forgetful = replace(fakes.resources, bucket=bucket)
    results = await asyncio.gather(*(ws_tickets.redeem(forgetful, text) for _ in range(8)), return_exceptions=True)
    assert results.count(ALICE) == 1


async def test_ws_ticket_storage_unavailable() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    fakes.bucket.switch.is_up = False
    with pytest.raises(Unavailable):
        await ws_tickets.redeem(fakes.resources, text)
    fakes.bucket.switch.is_up = True
    assert await ws_tickets.redeem(fakes.resources, text) == ALICE


async def test_ws_ticket_ignores_unknown_fields() -> None:
    fakes = FakeService()
    text, _ = await ws_tickets.issue(fakes.resources, ALICE)
    key = layout.ticket(text.split(".")[0])
    newer = json.loads(fakes.bucket.objects[key].body) | {"origin": "https://example.org"}
    await fakes.bucket.put(key, json.dumps(newer).encode(), "application/json")
    assert await ws_tickets.redeem(fakes.resources, text) == ALICE
