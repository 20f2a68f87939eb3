"""Format, creation and changes of API keys."""

import asyncio
import hashlib
import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.access import api_keys, key_format
from pipeline.access.api_keys import ANONYMOUS, Caller, KeyRecord
from pipeline.contract import layout
from pipeline.errors import InvalidInput, NotFound, Unavailable
from tests.support.fake_service import FakeService
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import EPOCH

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
seeds = st.integers(0, 2**64)


async def made(fakes: FakeService, **given: object) -> tuple[str, KeyRecord]:
    wanted = {"owner": "alice", "name": "laptop", "scopes": ["preview"], "expires_at": None} | given
    return await api_keys.make(fakes.resources, **wanted)  # type: ignore[arg-type]


def text_of(seed: int) -> str:
    """Create a key; return its text."""
    text, _ = asyncio.run(made(FakeService(), random=random.Random(seed).randbytes))
    return text


def stored(fakes: FakeService, key_id: str) -> KeyRecord:
    return KeyRecord.model_validate_json(fakes.voices.objects[layout.key(key_id)].body)


@given(seeds)
def test_key_round_trip(seed: int) -> None:
    text = text_of(seed)
    assert re.fullmatch(r"vck_[0-9a-z]{12}_[0-9A-Za-z]{49}", text)
    presented = key_format.parse(text)
    assert presented is not None
    assert presented.key_id == text[4:16]
    assert presented.digest == hashlib.sha256(text[17:60].encode()).hexdigest()


@given(seeds, st.integers(0, 65), st.sampled_from(ALPHABET + "_-. é\n"))
def test_checksum_finds_changed_character(seed: int, position: int, character: str) -> None:
    text = text_of(seed)
    changed = text[:position] + character + text[position + 1 :]
    assert (key_format.parse(changed) is None) == (changed != text)


@given(seeds, st.integers(0, 64))
def test_checksum_finds_swapped_characters(seed: int, position: int) -> None:
    text = text_of(seed)
    swapped = text[:position] + text[position + 1] + text[position] + text[position + 2 :]
    assert (key_format.parse(swapped) is None) == (swapped != text)


@given(st.text(max_size=100))
def test_malformed_key(text: str) -> None:
    assert key_format.parse(text) is None


def test_checksum_is_crc32() -> None:
    """Worked out bit by bit: CRC-32 of all before it is 1014383385; in base 62, digits first, then capitals."""
    text = "vck_0123456789ab_" + "0" * 43
    assert key_format.parse(text + "16eFSL") is not None


def test_keys_are_unique() -> None:
    texts = {text_of(seed) for seed in range(200)}
    assert len({text[4:16] for text in texts}) == len({text[17:60] for text in texts}) == 200


async def test_secret_is_not_stored() -> None:
    fakes = FakeService()
    text, record = await made(fakes, scopes=["voices:write", "preview"], expires_at=EPOCH + timedelta(days=1))
    assert fakes.voice_keys(layout.KEYS) == [f"keys/{record.key_id}/key.json"]
    assert stored(fakes, record.key_id) == record
    assert (record.owner, record.name, record.scopes) == ("alice", "laptop", ("preview", "voices:write"))
    assert (record.created_at, record.expires_at) == (EPOCH, EPOCH + timedelta(days=1))
    body = fakes.voices.objects[layout.key(record.key_id)].body.decode()
    assert text[17:60] not in body
    assert text[17:60] not in repr(key_format.parse(text)) + repr(record)
    assert record.digest not in repr(key_format.parse(text))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"owner": "Alice"}, "owner"),
        ({"owner": ""}, "owner"),
        ({"name": "n" * 81}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["preview", "everything"]}, "scopes"),
        ({"expires_at": EPOCH}, "expires_at"),
        ({"expires_at": datetime(2030, 1, 1)}, "expires_at"),
    ],
)
async def test_invalid_key_properties(wrong: dict[str, object], field: str) -> None:
    fakes = FakeService()
    with pytest.raises(InvalidInput) as caught:
        await made(fakes, **wrong)
    assert caught.value.field == field
    assert fakes.voice_keys(layout.KEYS) == []


async def test_taken_id_is_not_overwritten() -> None:
    fakes = FakeService()
    _, record = await made(fakes, random=random.Random(1).randbytes)
    with pytest.raises(Unavailable, match="taken"):
        await made(fakes, owner="bob", random=random.Random(1).randbytes)
    assert stored(fakes, record.key_id) == record


class Forgetful(FakeBucket):
    """Makes conditional writes, loses the response, and refuses the retry."""

    async def put_once(self, key: str, body: bytes, content_type: str, **more: Any) -> str | None:
        await super().put_once(key, body, content_type, **more)
        return None

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        await super().replace(key, body, content_type, etag=etag)
        return None


async def test_lost_response() -> None:
    fakes = FakeService()
    fakes.voices = Forgetful(fakes.time)
    resources = replace(fakes.resources, voices=fakes.voices)
    text, record = await api_keys.make(resources, owner="alice", name="", scopes=["admin"], expires_at=None)
    assert key_format.parse(text) is not None
    assert (await api_keys.revoke(resources, record.key_id)).revoked_at == EPOCH
    assert stored(fakes, record.key_id).revoked_at == EPOCH


async def test_revocation_time_is_kept() -> None:
    fakes = FakeService()
    _, record = await made(fakes)
    assert (await api_keys.revoke(fakes.resources, record.key_id)).revoked_at == EPOCH
    fakes.advance(days=1)
    await api_keys.revoke(fakes.resources, record.key_id)
    with pytest.raises(InvalidInput, match="revoked") as caught:
        await api_keys.expire(fakes.resources, record.key_id, EPOCH + timedelta(days=9))
    assert caught.value.field == "key_id"
    assert stored(fakes, record.key_id) == record.model_copy(update={"revoked_at": EPOCH})


async def test_expiry_can_be_moved() -> None:
    fakes = FakeService()
    _, record = await made(fakes, expires_at=EPOCH + timedelta(days=1))
    for moment in (EPOCH, EPOCH + timedelta(days=9)):
        await api_keys.expire(fakes.resources, record.key_id, moment)
        assert stored(fakes, record.key_id) == record.model_copy(update={"expires_at": moment})
    with pytest.raises(InvalidInput, match="time zone") as caught:
        await api_keys.expire(fakes.resources, record.key_id, datetime(2030, 1, 1))
    assert caught.value.field == "expires_at"


async def test_change_of_missing_key() -> None:
    fakes = FakeService()
    text, _ = await made(fakes)
    with pytest.raises(NotFound, match="000000000000") as unknown:
        await api_keys.revoke(fakes.resources, "000000000000")
    with pytest.raises(InvalidInput) as whole_key:
        await api_keys.revoke(fakes.resources, text)
    assert unknown.value.field == whole_key.value.field == "key_id"
    assert text[4:] not in whole_key.value.message


async def test_concurrent_changes() -> None:
    fakes = FakeService()
    _, record = await made(fakes)
    later = EPOCH + timedelta(days=9)
    await asyncio.gather(
        *(api_keys.expire(fakes.resources, record.key_id, later) for _ in range(4)),
        api_keys.revoke(fakes.resources, record.key_id),
        return_exceptions=True,
    )
    assert stored(fakes, record.key_id).revoked_at == EPOCH
    assert fakes.voices.switch.count("put") == 0


async def test_list_keys() -> None:
    fakes = FakeService()
    _, first = await made(fakes, name="first")
    fakes.advance(hours=1)
    _, second = await made(fakes, owner="bob")
    fakes.advance(hours=1)
    await api_keys.record_use(fakes.resources, second.key_id)
    await fakes.voices.put("keys/README.txt", b"", "text/plain")
    await fakes.voices.put("keys/not-ours/key.json", b"", "text/plain")
    await fakes.voices.put(layout.key("damaged00000"), b"{}", "text/plain")
    listed = await api_keys.list_keys(fakes.resources)
    assert [(one.record, one.used_at) for one in listed] == [(first, None), (second, EPOCH + timedelta(hours=2))]
    assert [one.record for one in await api_keys.list_keys(fakes.resources, "bob")] == [second]


async def test_damaged_last_use() -> None:
    fakes = FakeService()
    _, record = await made(fakes)
    await fakes.voices.put(layout.key_use(record.key_id), b"{", "text/plain")
    assert [one.used_at for one in await api_keys.list_keys(fakes.resources)] == [None]


async def test_use_does_not_undo_revocation() -> None:
    fakes = FakeService()
    _, record = await made(fakes)
    await asyncio.gather(
        api_keys.record_use(fakes.resources, record.key_id), api_keys.revoke(fakes.resources, record.key_id)
    )
    assert stored(fakes, record.key_id).revoked_at == EPOCH


def test_scopes_of_caller() -> None:
    one = Caller("alice", "k", frozenset({"preview"}))
    admin = Caller("root", "k", frozenset({"admin"}))
    assert one.may("preview")
    assert not one.may("voices:write")
    assert not one.may("admin")
    for caller in (admin, ANONYMOUS):
        assert caller.may("preview")
        assert caller.may("voices:write")
        assert caller.may("admin")
    assert (ANONYMOUS.owner, ANONYMOUS.key_id) == (None, None)


def test_record_with_invalid_owner() -> None:
    with pytest.raises(ValueError, match="owner"):
        KeyRecord(key_id="k", digest="d", name="", owner="a/b", scopes=("admin",), created_at=datetime.now(UTC))
