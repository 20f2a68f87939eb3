"""Voices are read and listed in pages; only those that are ready are found."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from functions.previews.requests import find_reference
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Source, VoiceMetadata
from pipeline.domain import voice_changes, voices
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import NameTaken, NotFound
from tests.support.fake_service import PROMPT, FakeService
from tests.support.fakes.bucket import FakeBucket


async def test_voice_of_previous_version() -> None:
    fakes = FakeService()
    await many(fakes, ["nova"])
    await fakes.voices.put(layout.voice(None, "nova").embedding, PROMPT, JSON)
    reference = await find_reference(fakes.resources, Source(voice_id="nova"))
    assert (reference.reference_id, reference.folder) == ("r", "audio/voices/nova/")
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert fakes.voice_keys() == []


async def test_damaged_voice_is_skipped() -> None:
    fakes = FakeService()
    for name in ("Ann", "Bob", "Cid"):
        await voice_changes.save(fakes.resources, None, await fakes.session(), name)
    await fakes.voices.put(layout.voice(None, "bob").metadata, b"{", JSON)
    assert [voice.voice_id for voice in (await voices.page(fakes.resources, None, limit=10)).voices] == [
        "ann",
        "cid",
    ]
    with pytest.raises(NotFound):
        await voices.get(fakes.resources, None, "bob")
    with pytest.raises(NameTaken):
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Bob")


async def many(fakes: FakeService, ids: list[str]) -> None:
    for voice_id in ids:
        keys = layout.voice(None, voice_id)
        metadata = VoiceMetadata(
            voice_id=voice_id,
            name=voice_id,
            created_at=fakes.time(),
            source_file=keys.audio,
            embedding_file=keys.embedding,
            status="ready",
            changed_at=fakes.time(),
            reference_id="r",
        )
        await fakes.voices.put(keys.metadata, metadata.to_json(), JSON)
        await fakes.voices.put(keys.audio, b"", "audio/wav")


IDS = ["nova", "nova-2", "nova2", "a", "a-b", "a-b-c", "ab", "0", "z", "zz", "zz-0", *(f"v{n}" for n in range(40))]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 16, 17, 50, 51, 1000])
async def test_pages_are_complete(limit: int) -> None:
    fakes = FakeService()
    await many(fakes, IDS)
    seen: list[str] = []
    after = ""
    while True:
        page = await voices.page(fakes.resources, None, limit=limit, after=after)
        assert len(page.voices) <= limit
        seen += [voice.voice_id for voice in page.voices]
        if page.next_after is None:
            break
        assert page.next_after == seen[-1]
        assert len(page.voices) == limit
        after = page.next_after
    assert seen == sorted(IDS)


async def test_page_with_damaged_voices() -> None:
    fakes = FakeService()
    await many(fakes, IDS)
    for damaged in ("a", "a-b", "nova", "v0", "v1", "v10", "v11"):
        await fakes.voices.put(layout.voice(None, damaged).metadata, b"{", JSON)
    ready = sorted(set(IDS) - {"a", "a-b", "nova", "v0", "v1", "v10", "v11"})
    first = await voices.page(fakes.resources, None, limit=10)
    assert [voice.voice_id for voice in first.voices] == ready[:10]
    rest = await voices.page(fakes.resources, None, limit=100, after=ready[9])
    assert [voice.voice_id for voice in rest.voices] == ready[10:]


async def test_page_after_any_text() -> None:
    fakes = FakeService()
    await many(fakes, IDS)
    for after in ("n", "nova-", "nova-1", "nova-2", "nova/", "~", "\u5c0f", "A"):
        page = await voices.page(fakes.resources, None, limit=100, after=after)
        assert [voice.voice_id for voice in page.voices] == sorted(id_ for id_ in IDS if id_ > after)


async def test_last_page() -> None:
    fakes = FakeService()
    await many(fakes, ["a", "b"])
    assert (await voices.page(fakes.resources, None, limit=2)).next_after is None
    assert (await voices.page(fakes.resources, None, limit=1)).next_after == "a"
    assert (await voices.page(FakeService().resources, None, limit=1)).voices == []


async def test_page_calls() -> None:
    fakes = FakeService()
    await many(fakes, [f"v{n:03}" for n in range(200)])
    fakes.recover()
    await voices.page(fakes.resources, None, limit=20)
    assert fakes.voices.switch.count("list_folders") == 1
    assert fakes.voices.switch.count("read") <= 20 + 16


class CountingFolders(FakeBucket):
    """Counts the folders that were listed."""

    folders_listed = 0

    async def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        async for name in super().list_folders(prefix, start_after=start_after):
            self.folders_listed += 1
            yield name


@pytest.mark.parametrize("stem", ["v", "v-"])
async def test_page_lists_no_more_than_needed(stem: str) -> None:
    fakes = FakeService()
    await many(fakes, ["v", *(f"{stem}{n:04}" for n in range(1000))])
    bucket = CountingFolders(fakes.time)
    bucket.objects = fakes.voices.objects
    resources = replace(fakes.resources, voices=bucket)
    first = await voices.page(resources, None, limit=20)
    assert [voice.voice_id for voice in first.voices] == ["v", *(f"{stem}{n:04}" for n in range(19))]
    assert bucket.folders_listed <= 22
    assert bucket.switch.count("read") <= 22
    bucket.folders_listed = 0
    await voices.page(resources, None, limit=20, after=f"{stem}0500")
    assert bucket.folders_listed <= 22


async def test_page_of_many_voices_costs_one_page() -> None:
    fakes = FakeService()
    await many(fakes, [f"voice-{number}" for number in range(3000)])
    fakes.recover()
    after = ""
    for _ in range(2):
        page = await voices.page(fakes.resources, None, limit=100, after=after)
        assert len(page.voices) == 100
        assert fakes.voices.switch.count("list_folders") == 1
        assert len(fakes.voices.switch.calls) <= 103
        after = page.next_after or ""
        fakes.recover()
