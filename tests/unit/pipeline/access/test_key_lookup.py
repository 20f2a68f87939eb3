"""Verification and caching of API keys."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.access import api_keys, key_format
from pipeline.access.api_keys import Caller
from pipeline.access.key_lookup import KeyLookup
from pipeline.contract import layout
from pipeline.errors import Unauthorized, Unavailable
from tests.support.fake_service import FakeService
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import EPOCH

UNKNOWN = "This API key is not known."


async def made(fakes: FakeService, seconds: float | None = None, owner: str = "alice") -> str:
    expires_at = None if seconds is None else fakes.time() + timedelta(seconds=seconds)
    text, _ = await api_keys.make(fakes.resources, owner=owner, name="", scopes=["preview"], expires_at=expires_at)
    return text


def id_of(text: str) -> str:
    return text[4:16]


async def somebody_elses(fakes: FakeService, text: str) -> str:
    """Create a valid key with the same id and another secret."""
    mixed = text[:17] + (await made(FakeService()))[17:60]
    return mixed + key_format.checksum(mixed)


async def refusal(key_lookup: KeyLookup, text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await key_lookup.caller(text)
    return caught.value.message


async def test_valid_key() -> None:
    fakes = FakeService()
    text = await made(fakes)
    caller = await KeyLookup(fakes.resources).caller(text)
    assert caller == Caller("alice", id_of(text), frozenset({"preview"}))


async def test_unknown_id_and_wrong_secret_are_alike() -> None:
    fakes = FakeService()
    text, stranger = await made(fakes), await made(FakeService())
    key_lookup = KeyLookup(fakes.resources)
    assert await refusal(key_lookup, stranger) == UNKNOWN
    assert await refusal(key_lookup, await somebody_elses(fakes, text)) == UNKNOWN


async def test_malformed_key_needs_no_lookup() -> None:
    fakes = FakeService()
    text = await made(fakes)
    key_lookup = KeyLookup(fakes.resources)
    for wrong in ("", "secret", text[:-1], text + "\n", "Bearer " + text, "\ud800"):
        message = await refusal(key_lookup, wrong)
        assert "vck_" in message
        assert text[17:] not in message
    assert fakes.voices.switch.count("read") == 0


async def test_revoked_and_expired_messages() -> None:
    fakes = FakeService()
    revoked, expired = await made(fakes), await made(fakes, seconds=1)
    await api_keys.revoke(fakes.resources, id_of(revoked))
    fakes.advance(seconds=1)
    key_lookup = KeyLookup(fakes.resources)
    assert "revoked" in await refusal(key_lookup, revoked)
    assert "expired at 2026-01-01T00:00:01Z" in await refusal(key_lookup, expired)
    for text in (revoked, expired):
        assert await refusal(key_lookup, await somebody_elses(fakes, text)) == UNKNOWN


async def test_lookups_are_cached() -> None:
    fakes = FakeService()
    text, stranger = await made(fakes), await made(FakeService())
    key_lookup = KeyLookup(fakes.resources)
    await asyncio.gather(*(key_lookup.caller(text) for _ in range(32)))
    await asyncio.gather(*(refusal(key_lookup, stranger) for _ in range(32)))
    for _ in range(49):
        fakes.advance(seconds=1)
        await key_lookup.caller(text)
        assert await key_lookup.is_still_valid(id_of(text))
        await refusal(key_lookup, stranger)
    assert fakes.voices.switch.count("read") == 2
    fakes.advance(seconds=1)
    await key_lookup.caller(text)
    assert fakes.voices.switch.count("read") == 3


async def test_changes_take_effect_in_a_minute() -> None:
    fakes = FakeService()
    revoked, expired = await made(fakes), await made(fakes)
    key_lookup = KeyLookup(fakes.resources)
    for text in (revoked, expired):
        await key_lookup.caller(text)
    await api_keys.revoke(fakes.resources, id_of(revoked))
    await api_keys.expire(fakes.resources, id_of(expired), fakes.time())
    fakes.advance(seconds=50)
    assert not await key_lookup.is_still_valid(id_of(revoked))
    assert not await key_lookup.is_still_valid(id_of(expired))
    assert "revoked" in await refusal(key_lookup, revoked)
    assert "expired" in await refusal(key_lookup, expired)


async def test_expiry_ignores_cache() -> None:
    fakes = FakeService()
    text = await made(fakes, seconds=10)
    key_lookup = KeyLookup(fakes.resources)
    await key_lookup.caller(text)
    fakes.advance(seconds=9.999)
    assert await key_lookup.is_still_valid(id_of(text))
    fakes.advance(seconds=0.001)
    assert not await key_lookup.is_still_valid(id_of(text))
    assert "expired" in await refusal(key_lookup, text)
    assert fakes.voices.switch.count("read") == 1


async def test_clock_set_back() -> None:
    fakes = FakeService()
    text = await made(fakes)
    key_lookup = KeyLookup(fakes.resources)
    await key_lookup.caller(text)
    await api_keys.revoke(fakes.resources, id_of(text))
    fakes.advance(hours=-1)
    assert not await key_lookup.is_still_valid(id_of(text))


async def test_missing_key() -> None:
    fakes = FakeService()
    key_lookup = KeyLookup(fakes.resources)
    assert not await key_lookup.is_still_valid("0" * 12)
    assert not await key_lookup.is_still_valid("../key.json")
    assert fakes.voices.switch.calls == ["read"]


async def test_damaged_record() -> None:
    fakes = FakeService()
    text = await made(fakes)
    await fakes.voices.put(layout.key(id_of(text)), b'{"owner": "alice"}', "application/json")
    assert await refusal(KeyLookup(fakes.resources), text) == UNKNOWN


async def test_copied_record() -> None:
    fakes = FakeService()
    text = await made(fakes)
    copied = "vck_" + "0" * 12 + text[16:60]
    copied += key_format.checksum(copied)
    body = fakes.voices.objects[layout.key(id_of(text))].body
    await fakes.voices.put(layout.key("0" * 12), body, "application/json")
    assert await refusal(KeyLookup(fakes.resources), copied) == UNKNOWN


async def test_errors_fit_in_headers() -> None:
    fakes = FakeService()
    revoked, expired = await made(fakes), await made(fakes, seconds=1)
    await api_keys.revoke(fakes.resources, id_of(revoked))
    fakes.advance(seconds=1)
    key_lookup = KeyLookup(fakes.resources)
    for text in ("", revoked, expired, await made(FakeService())):
        message = await refusal(key_lookup, text)
        assert message.isascii()
        assert message.isprintable()


async def test_storage_unavailable() -> None:
    fakes = FakeService()
    text = await made(fakes)
    key_lookup = KeyLookup(fakes.resources)
    await key_lookup.caller(text)
    fakes.advance(seconds=50)
    before = fakes.voices.switch.count("read")
    fakes.voices.switch.is_up = False
    for _ in range(10):
        with pytest.raises(Unavailable) as caught:
            await key_lookup.caller(text)
        assert caught.value.retry_after == 2
        with pytest.raises(Unavailable):
            await key_lookup.is_still_valid(id_of(text))
    assert fakes.voices.switch.count("read") == before + 1
    fakes.voices.switch.is_up = True
    fakes.advance(seconds=2)
    assert (await key_lookup.caller(text)).owner == "alice"


class Stuck(FakeBucket):
    """Blocks reads until it is released."""

    def __init__(self, of: FakeBucket) -> None:
        super().__init__(of._time)
        self.objects = of.objects
        self.free = asyncio.Event()

    async def get(self, key: str) -> bytes | None:
        await self.free.wait()
        return await super().get(key)


async def test_storage_timeout() -> None:
    fakes = FakeService()
    text = await made(fakes)
    key_lookup = KeyLookup(replace(fakes.resources, voices=Stuck(fakes.voices)), look_up_timeout_seconds=0.01)
    with pytest.raises(Unavailable):
        await key_lookup.caller(text)


async def test_cancelled_caller() -> None:
    fakes = FakeService()
    text = await made(fakes)
    stuck = Stuck(fakes.voices)
    key_lookup = KeyLookup(replace(fakes.resources, voices=stuck))
    first, second = (asyncio.create_task(key_lookup.caller(text)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    stuck.free.set()
    assert (await second).owner == "alice"
    assert first.cancelled()
    assert stuck.switch.count("read") == 1


def test_closed_event_loop() -> None:
    fakes = FakeService()
    text = asyncio.run(made(fakes))
    stuck = Stuck(fakes.voices)
    key_lookup = KeyLookup(replace(fakes.resources, voices=stuck))

    async def hang_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(key_lookup.caller(text), 0.01)

    async def again() -> str | None:
        stuck.free = asyncio.Event()
        stuck.free.set()
        return (await key_lookup.caller(text)).owner

    asyncio.run(hang_up())
    assert asyncio.run(again()) == "alice"
    assert asyncio.run(again()) == "alice"
    assert stuck.switch.count("read") == 1


async def test_unknown_keys_do_not_evict() -> None:
    fakes = FakeService()
    used, idle = await made(fakes), await made(fakes)
    key_lookup = KeyLookup(fakes.resources, cache_size=2)
    await key_lookup.caller(used)
    await key_lookup.is_still_valid(id_of(idle))
    for _ in range(5):
        await refusal(key_lookup, await made(FakeService()))
    before = fakes.voices.switch.count("read")
    await key_lookup.caller(used)
    await key_lookup.is_still_valid(id_of(idle))
    assert fakes.voices.switch.count("read") == before


async def test_cache_is_bounded() -> None:
    fakes = FakeService()
    texts = [await made(fakes) for _ in range(3)]
    key_lookup = KeyLookup(fakes.resources, cache_size=2)
    for text in (*texts, texts[0]):
        await key_lookup.caller(text)
    assert fakes.voices.switch.count("read") == 4


def uses(fakes: FakeService) -> int:
    return fakes.voices.switch.count("put")


async def test_last_use_interval() -> None:
    fakes = FakeService()
    text = await made(fakes)
    key_lookup = KeyLookup(fakes.resources)
    await asyncio.gather(*(key_lookup.caller(text) for _ in range(32)))
    assert [one.used_at for one in await api_keys.list_keys(fakes.resources)] == [EPOCH]
    fakes.advance(minutes=9.9)
    await key_lookup.caller(text)
    assert uses(fakes) == 1
    fakes.advance(minutes=0.1)
    await key_lookup.caller(text)
    assert uses(fakes) == 2
    assert [one.used_at for one in await api_keys.list_keys(fakes.resources)] == [EPOCH + timedelta(minutes=10)]


async def test_last_use_of_valid_keys_only() -> None:
    fakes = FakeService()
    text = await made(fakes)
    await api_keys.revoke(fakes.resources, id_of(text))
    key_lookup = KeyLookup(fakes.resources)
    await refusal(key_lookup, text)
    await refusal(key_lookup, await made(FakeService()))
    await refusal(key_lookup, await somebody_elses(fakes, text))
    assert uses(fakes) == 0


class NoNotes(FakeBucket):
    async def put(self, key: str, body: bytes, content_type: str) -> None:
        raise Unavailable("no notes")


async def test_last_use_failure() -> None:
    fakes = FakeService()
    text = await made(fakes)
    bucket = NoNotes(fakes.time)
    bucket.objects = fakes.voices.objects
    assert (await KeyLookup(replace(fakes.resources, voices=bucket)).caller(text)).owner == "alice"
