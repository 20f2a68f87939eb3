"""Claims of ids: equal names conflict, and different names with one readable form get ids of their own."""

import asyncio
from random import Random

import pytest

from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voice_changes, voice_names, voice_renaming, voices
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import NameTaken, NotFound
from tests.support.fake_service import Crash, FakeService
from tests.support.fakes.switch import RandomOrder
from tests.support.saved_voices import complete_revocations

TIMEOUT_SECONDS = voice_changes.CHANGE_TIMEOUT.total_seconds()


async def save(fakes: FakeService, name: str, session_id: str | None = None) -> VoiceMetadata:
    return await voice_changes.save(fakes.resources, None, session_id or await fakes.session(), name)


async def listed(fakes: FakeService) -> dict[str, str]:
    page = await voices.page(fakes.resources, None, limit=100)
    return {voice.voice_id: voice.name for voice in page.voices}


@pytest.mark.parametrize(
    ("names", "voice_id"),
    [
        (("小明", "晓明"), "xiao-ming"),
        (("C#", "C++", "C", "c--"), "c"),
        (("Müller", "Muller"), "muller"),
        (("My voice", "My-voice", "my_voice", "My  voice"), "my-voice"),
        (("ⵣ a", "ⵥ a"), "a"),
    ],
)
async def test_save_equal_slugs(names: tuple[str, ...], voice_id: str) -> None:
    fakes = FakeService()
    saved = [await save(fakes, name) for name in names]
    assert saved[0].voice_id == voice_id
    assert all(voice.voice_id.startswith(f"{voice_id}-") for voice in saved[1:])
    assert await listed(fakes) == dict(sorted((voice.voice_id, voice.name) for voice in saved))
    assert len(await listed(fakes)) == len(names)
    for name in names:
        with pytest.raises(NameTaken):
            await save(fakes, name)
    assert fakes.keys(layout.CHANGES) == []


@pytest.mark.parametrize("name", ["Zoë", "Zoe\u0308", " zoë ", "ZOË"])
async def test_save_equal_name_conflicts(name: str) -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await save(fakes, "Zoë", session_id)
    for again in (session_id, None):
        with pytest.raises(NameTaken, match="zoe") as caught:
            await save(fakes, name, again)
        assert caught.value.field == "name"
    assert await listed(fakes) == {"zoe": "Zoë"}
    assert fakes.keys(layout.CHANGES) == []


async def test_save_after_deletion_of_slug() -> None:
    fakes = FakeService()
    await save(fakes, "C#")
    second = await save(fakes, "C++")
    await revoke_voice(fakes.resources, None, "c", "deleted")
    with pytest.raises(NameTaken, match=second.voice_id):
        await save(fakes, "C++")
    assert (await save(fakes, "C")).voice_id == "c"


async def test_save_name_of_renamed_voice() -> None:
    fakes = FakeService()
    ids = []
    for number in range(4):
        ids.append((await save(fakes, "Nova")).voice_id)
        await voice_renaming.rename(fakes.resources, None, ids[-1], name=f"Aria {number}")
    distinct = voice_names.distinct_voice_id_of("Nova")
    assert ids == ["nova", distinct, f"{distinct}-2", f"{distinct}-3"]
    assert len(await listed(fakes)) == 4


async def test_save_long_names() -> None:
    fakes = FakeService()
    names = ["a" * 64, "a-" * 32, "a" * 79 + "x", "a" * 79 + "y", "小" * 80]
    saved = [await save(fakes, name) for name in names]
    for voice in saved:
        await voice_renaming.rename(fakes.resources, None, voice.voice_id, name=f"Aria {voice.voice_id}")
    again = [(await save(fakes, name)).voice_id for name in names]
    assert all(voice_names.is_voice_id(voice_id) for voice_id in again)
    assert len(await listed(fakes)) == 10


@pytest.mark.parametrize("seed", range(20))
async def test_concurrent_saves_of_one_slug(seed: int) -> None:
    fakes = FakeService()
    random = Random(seed)
    fakes.bucket.switch = fakes.voices.switch = RandomOrder(random)
    names = ["Müller", "Muller", "Muller", "mueller", "MÜLLER"]
    results = await asyncio.gather(*(save(fakes, name) for name in names), return_exceptions=True)
    assert {type(result) for result in results} == {VoiceMetadata, NameTaken}
    found = await listed(fakes)
    assert sorted(name.casefold() for name in found.values()) == ["mueller", "muller", "müller"]
    assert fakes.keys(layout.CHANGES) == []


@pytest.mark.parametrize("seed", range(40))
async def test_concurrent_saves_and_deletion(seed: int) -> None:
    fakes = FakeService()
    await save(fakes, "C#")
    sessions = [await fakes.session() for _ in range(3)]
    fakes.bucket.switch = fakes.voices.switch = RandomOrder(Random(seed))
    results = await asyncio.gather(
        *(save(fakes, "C++", session_id) for session_id in sessions),
        revoke_voice(fakes.resources, None, "c", "deleted"),
        return_exceptions=True,
    )
    assert {type(result) for result in results[:3]} <= {VoiceMetadata, NameTaken}
    saved = [result.voice_id for result in results[:3] if isinstance(result, VoiceMetadata)]
    assert len(saved) <= 1
    assert await listed(fakes) == dict.fromkeys(saved, "C++")
    await complete_revocations(fakes)
    assert await listed(fakes) == dict.fromkeys(saved, "C++")
    assert fakes.keys(layout.CHANGES) == []


@pytest.mark.parametrize("retried", [True, False])
async def test_interrupted_save_of_equal_slug(retried: bool) -> None:
    steps = 0
    while True:
        fakes = FakeService()
        await save(fakes, "C#")
        session_id = await fakes.session()
        fakes.fail_after(steps)
        try:
            await save(fakes, "C++", session_id)
        except Crash:
            fakes.recover()
        else:
            break
        steps += 1
        if retried and "C++" not in (await listed(fakes)).values():
            await save(fakes, "C++", session_id)
        fakes.advance(seconds=TIMEOUT_SECONDS)
        await voice_changes.finish_changes(fakes.resources)
        assert fakes.keys(layout.CHANGES) == []
        names = list((await listed(fakes)).values())
        assert names in (["C#", "C++"], ["C#"])
        assert (len(names) == 2) or not retried
        assert len({key.split("/")[2] for key in fakes.voice_keys()}) == len(names)
    assert steps >= 10


async def test_damaged_metadata_keeps_id() -> None:
    fakes = FakeService()
    await fakes.voices.put(layout.voice(None, "bob").metadata, b"{", JSON)
    with pytest.raises(NameTaken):
        await save(fakes, "Bob")
    with pytest.raises(NotFound):
        await voices.get(fakes.resources, None, "bob")


def test_distinct_id_ignores_case_and_form() -> None:
    ids = {voice_names.distinct_voice_id_of(name) for name in ("Zoë", "zoe\u0308", "ZOË", " Zoë")}
    assert len(ids) == 1
    assert voice_names.distinct_voice_id_of("Zoe") not in ids
