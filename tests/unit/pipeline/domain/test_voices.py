"""Saved voices through everything that can happen to them on the way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from functions.previews.requests import find_reference
from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import encoded
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.queue_messages import parse_queue_message
from pipeline.contract.records import Consent, Source, VoiceMetadata
from pipeline.domain import jobs, sessions, voice_changes, voice_renaming, voices
from pipeline.errors import Expired, InvalidInput, NameTaken, NotFound, Unavailable
from tests.fakes import FakeBucket, Switch
from tests.world import PROMPT, Crash, World, spoken

TIMEOUT = voice_changes.CHANGE_TIMEOUT


def stored(world: World, voice_id: str) -> VoiceMetadata:
    return VoiceMetadata.model_validate_json(world.voices.objects[layout.voice(None, voice_id).metadata].body)


def whole(world: World, voice_id: str, session_id: str) -> None:
    """Assert that a voice is all there, of one session and no other."""
    metadata = stored(world, voice_id)
    keys, source = layout.voice_files(metadata), layout.session(session_id)
    assert (metadata.status, metadata.reference_id) == ("ready", session_id)
    assert world.voices.objects[keys.audio].body == world.bucket.objects[source.audio].body
    assert world.voices.objects[keys.transcription].body == world.bucket.objects[source.transcription].body
    assert world.voices.objects[keys.embedding].body == PROMPT


async def test_a_voice_is_kept_with_all_that_it_needs() -> None:
    world = World()
    session_id = await world.session("What I say.")
    saved = await voice_changes.save(world.resources, None, session_id, " Nova ", "calm")
    whole(world, "nova", session_id)
    assert world.voice_keys() == files("nova", session_id)
    assert (saved.voice_id, saved.name, saved.description) == ("nova", "Nova", "calm")
    assert (saved.duration_seconds, saved.sample_rate, saved.model) == (2.0, 16_000, "mock")
    assert saved.transcription_file == f"audio/voices/nova/{session_id}/transcription.txt"
    assert world.keys(layout.CHANGES) == []
    assert world.synthesis.bodies == []
    assert (await voices.get(world.resources, None, "nova")).changed_at == saved.changed_at


def files(voice_id: str, session_id: str, *names: str) -> list[str]:
    """Return the keys of a voice; all of them unless some are named."""
    names = names or ("embedding.json", "source.wav", "transcription.txt")
    folder = f"audio/voices/{voice_id}"
    return [*(f"{folder}/{session_id}/{name}" for name in names), f"{folder}/metadata.json"]


async def test_a_voice_outlives_its_session() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(), "Nova")
    world.later(days=365)
    assert (await voices.get(world.resources, None, "nova")).name == "Nova"


async def test_a_voice_without_transcription_or_embedding() -> None:
    world = World()
    session_id = await world.session("", embedded=False)
    saved = await voice_changes.save(world.resources, None, session_id, "Nova")
    assert saved.transcription_file is None
    assert saved.model is None
    assert world.voice_keys() == files("nova", session_id, "source.wav")
    ticket = parse_queue_message(world.synthesis.bodies[0])
    assert ticket is not None
    request = await jobs.read_request(world.resources, ticket.job_id)
    assert request is not None
    assert (request.kind, request.source.voice_id, request.reference_id) == ("embedding", "nova", session_id)


async def test_the_words_of_consent_are_kept_with_the_voice_and_their_time() -> None:
    world = World()
    saved = await voice_changes.save(world.resources, None, await world.session(), "Nova", consent=" I agree. ")
    assert saved.consent == Consent(text="I agree.", given_at=world.time())
    assert stored(world, "nova").consent == saved.consent
    assert (
        await voice_changes.save(world.resources, None, await world.session(), "Ann", consent=" ")
    ).consent is None


async def test_consent_is_a_sentence_and_no_book() -> None:
    world = World()
    with pytest.raises(InvalidInput, match="at most 1000 characters; it has 1001") as refused:
        await voice_changes.save(world.resources, None, await world.session(), "Nova", consent="x" * 1001)
    assert refused.value.field == "consent"
    assert world.voice_keys() == []


async def test_a_renamed_voice_keeps_its_id_and_all_else() -> None:
    world = World()
    session_id = await world.session("What I say.")
    before = await voice_changes.save(world.resources, None, session_id, "Nova", "calm", "I agree.")
    world.later(days=1)
    renamed = await voice_renaming.rename(world.resources, None, "nova", name=" Aria ")
    expected = {"name": "Aria", "changed_at": world.time()}
    assert renamed.model_dump() == before.model_dump() | expected
    assert (await voice_renaming.rename(world.resources, None, "nova", description="")).description == ""
    whole(world, "nova", session_id)
    assert (await voices.get(world.resources, None, "nova")).name == "Aria"


async def test_two_who_rename_at_once_both_get_their_part() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(), "Nova", "calm")
    await asyncio.gather(
        voice_renaming.rename(world.resources, None, "nova", name="Aria"),
        voice_renaming.rename(world.resources, None, "nova", description="hoarse"),
    )
    metadata = stored(world, "nova")
    assert (metadata.name, metadata.description) == ("Aria", "hoarse")


async def test_what_can_not_be_renamed() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(), "Nova")
    for wrong in ({"name": " "}, {"name": "x" * 81}, {"description": "x" * 501}):
        with pytest.raises(InvalidInput):
            await voice_renaming.rename(world.resources, None, "nova", **wrong)
    assert stored(world, "nova").name == "Nova"
    await voice_changes.delete(world.resources, None, "nova")
    with pytest.raises(NotFound):
        await voice_renaming.rename(world.resources, None, "nova", name="Aria")


async def test_an_embedding_that_says_no_model_is_kept_all_the_same() -> None:
    world = World()
    session_id = await world.session()
    await world.bucket.put(layout.session(session_id).embedding, b"[]", JSON)
    assert (await voice_changes.save(world.resources, None, session_id, "Nova")).model is None


async def test_a_taken_name() -> None:
    world = World()
    first, second = await world.session(), await world.session()
    await voice_changes.save(world.resources, None, first, "Zoë")
    for session_id, name in [(second, "Zoë"), (second, "zoe"), (first, "Zoë")]:
        with pytest.raises(NameTaken, match="zoe") as caught:
            await voice_changes.save(world.resources, None, session_id, name)
        assert caught.value.field == "name"
    whole(world, "zoe", first)
    assert world.keys(layout.CHANGES) == []


async def test_what_is_wrong_is_found_before_anything_is_written() -> None:
    world = World()
    session_id = await world.session()
    before = world.keys()
    with pytest.raises(InvalidInput):
        await voice_changes.save(world.resources, None, session_id, "")
    with pytest.raises(InvalidInput):
        await voice_changes.save(world.resources, None, session_id, "Nova", "d" * 501)
    with pytest.raises(InvalidInput):
        await voice_changes.save(world.resources, None, "nonsense", "Nova")
    with pytest.raises(NotFound):
        await voice_changes.save(world.resources, None, world.resources.new_id(), "Nova")
    world.later(hours=12)
    with pytest.raises(Expired):
        await voice_changes.save(world.resources, None, session_id, "Nova")
    assert (world.keys(), world.voice_keys()) == (before, [])


@pytest.mark.parametrize("embedded", [True, False])
async def test_a_save_that_died_anywhere_is_finished_by_its_retry(embedded: bool) -> None:
    steps = 0
    while True:
        world = World()
        session_id = await world.session(embedded=embedded)
        fuse = world.blow_after(steps)
        try:
            await voice_changes.save(world.resources, None, session_id, "Nova")
        except Crash:
            world.mend()
        else:
            break
        is_ready = "nova" in [v.voice_id for v in (await voices.page(world.resources, None, limit=9)).voices]
        if not is_ready:
            await voice_changes.save(world.resources, None, session_id, "Nova")
        if not embedded:
            world.later(seconds=TIMEOUT.total_seconds())
            await voice_changes.finish_changes(world.resources)
            assert world.synthesis.bodies, f"no embedding asked for after {fuse.seen}"
            await world.voices.put(layout.voice_files(stored(world, "nova")).embedding, PROMPT, JSON)
        whole(world, "nova", session_id)
        steps += 1
    assert steps >= 8


async def test_a_save_that_died_anywhere_is_cleared_away_or_complete() -> None:
    steps = 0
    while True:
        world = World()
        session_id = await world.session()
        world.blow_after(steps)
        try:
            await voice_changes.save(world.resources, None, session_id, "Nova")
        except Crash:
            world.mend()
        else:
            break
        world.later(seconds=TIMEOUT.total_seconds())
        await voice_changes.finish_changes(world.resources)
        if world.voice_keys():
            whole(world, "nova", session_id)
        else:
            other = await world.session("Someone else.")
            await voice_changes.save(world.resources, None, other, "Nova")
            whole(world, "nova", other)
        assert world.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 8


async def test_a_save_that_died_is_neither_seen_nor_used() -> None:
    world = World()
    session_id = await world.session()
    world.blow_after(7)
    with pytest.raises(Crash):
        await voice_changes.save(world.resources, None, session_id, "Nova")
    world.mend()
    assert stored(world, "nova").status == "saving"
    assert (await voices.page(world.resources, None, limit=10)).voices == []
    with pytest.raises(NotFound):
        await voices.get(world.resources, None, "nova")
    with pytest.raises(NotFound):
        await voice_changes.delete(world.resources, None, "nova")
    with pytest.raises(NameTaken):
        await voice_changes.save(world.resources, None, await world.session(), "Nova")


async def test_a_save_is_given_its_time_before_it_is_cleared_away() -> None:
    world = World()
    session_id = await world.session()
    world.blow_after(7)
    with pytest.raises(Crash):
        await voice_changes.save(world.resources, None, session_id, "Nova")
    world.mend()
    world.later(seconds=TIMEOUT.total_seconds(), milliseconds=-1)
    assert await voice_changes.finish_changes(world.resources) == 0
    assert world.voice_keys()
    world.later(milliseconds=1)
    assert await voice_changes.finish_changes(world.resources) == 1
    assert (world.voice_keys(), world.keys(layout.CHANGES)) == ([], [])


async def test_a_save_that_was_taken_up_again_has_its_time_anew() -> None:
    world = World()
    session_id = await world.session()
    for _ in range(2):
        world.blow_after(9)
        with pytest.raises(Crash):
            await voice_changes.save(world.resources, None, session_id, "Nova")
        world.mend()
        world.later(seconds=TIMEOUT.total_seconds() / 2)
    world.later(seconds=1)
    assert await voice_changes.finish_changes(world.resources) == 0
    assert stored(world, "nova").status == "saving"


async def test_the_sweeper_can_not_clear_a_save_under_its_owner_without_the_owner_knowing() -> None:
    world = World()
    session_id = await world.session()
    saving = asyncio.ensure_future(voice_changes.save(world.resources, None, session_id, "Nova"))
    for _ in range(12):
        await asyncio.sleep(0)
    assert stored(world, "nova").status == "saving"
    world.later(seconds=TIMEOUT.total_seconds())
    await voice_changes.finish_changes(world.resources)
    try:
        await saving
    except NameTaken:
        assert layout.voice(None, "nova").metadata not in world.voices.objects
    else:
        whole(world, "nova", session_id)


@pytest.mark.parametrize("head_start", range(30))
async def test_of_two_saves_of_one_name_one_wins_and_nothing_mixes(head_start: int) -> None:
    world = World()
    sessions_ = [await world.session("I am one."), await world.session("I am the other.")]

    async def after(turns: int, session_id: str) -> VoiceMetadata:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await voice_changes.save(world.resources, None, session_id, "Nova")

    results = await asyncio.gather(after(0, sessions_[0]), after(head_start, sessions_[1]), return_exceptions=True)
    winners = [
        session_id
        for session_id, result in zip(sessions_, results, strict=True)
        if not isinstance(result, BaseException)
    ]
    assert len(winners) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == 1
    whole(world, "nova", winners[0])


@pytest.mark.parametrize("head_start", range(30))
async def test_a_retry_while_the_first_try_still_runs_does_no_harm(head_start: int) -> None:
    world = World()
    session_id = await world.session()

    async def after(turns: int) -> VoiceMetadata:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await voice_changes.save(world.resources, None, session_id, "Nova")

    results = await asyncio.gather(after(0), after(head_start), return_exceptions=True)
    assert any(isinstance(result, VoiceMetadata) for result in results)
    assert all(isinstance(result, VoiceMetadata | NameTaken) for result in results)
    whole(world, "nova", session_id)


async def test_a_save_whose_last_answer_was_lost_is_a_save() -> None:
    world = World()
    session_id = await world.session()

    class LosesAnswers(Switch):
        async def passed(self, call: str) -> None:
            await super().passed(call)
            if call == "replace":
                # The client's own retry finds the object that its first try has written.
                metadata = stored(world, "nova")
                ready = metadata.model_copy(
                    update={
                        "status": "ready",
                        "transcription_file": layout.voice_files(metadata).transcription,
                        "duration_seconds": 2.0,
                        "sample_rate": 16_000,
                        "model": "mock",
                    }
                )
                world.voices._write(layout.voice(None, "nova").metadata, ready.to_json(), JSON)

    world.voices.switch = LosesAnswers()
    assert (await voice_changes.save(world.resources, None, session_id, "Nova")).status == "ready"
    whole(world, "nova", session_id)


async def test_a_voice_that_is_ready_is_saved_whatever_the_queue_does() -> None:
    world = World()
    session_id = await world.session(embedded=False)
    world.synthesis.switch.is_up = False
    assert (await voice_changes.save(world.resources, None, session_id, "Nova")).voice_id == "nova"
    world.synthesis.switch.is_up = True
    world.later(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(world.resources) == 1
    assert len(world.synthesis.bodies) == 1


async def test_a_storage_that_fails_in_the_middle_is_said() -> None:
    for calls in range(2, 8):
        world = World()
        session_id = await world.session()
        world.blow_after(calls, Unavailable)
        with pytest.raises(Unavailable):
            await voice_changes.save(world.resources, None, session_id, "Nova")
        world.mend()
        await voice_changes.save(world.resources, None, session_id, "Nova")
        whole(world, "nova", session_id)


async def test_deleting_takes_everything() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(), "Nova")
    other = await world.session()
    await voice_changes.save(world.resources, None, other, "Nova 2")
    await world.voices.put(layout.voice(None, "nova").folder + "left-behind", b"", JSON)
    await voice_changes.delete(world.resources, None, "nova")
    assert world.voice_keys() == files("nova-2", other)
    assert world.keys(layout.CHANGES) == []
    with pytest.raises(NotFound, match="nova") as caught:
        await voice_changes.delete(world.resources, None, "nova")
    assert caught.value.field == "voice_id"


async def test_a_deleted_name_is_free_at_once() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session("Old."), "Nova")
    await voice_changes.delete(world.resources, None, "nova")
    session_id = await world.session("New.")
    await voice_changes.save(world.resources, None, session_id, "Nova")
    whole(world, "nova", session_id)


async def test_what_a_worker_writes_late_does_not_get_into_the_next_voice_of_that_name() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(embedded=False), "Nova")
    message = parse_queue_message(world.synthesis.bodies[0])
    assert message is not None
    late = await jobs.read_request(world.resources, message.job_id)
    assert late is not None
    await voice_changes.delete(world.resources, None, "nova")
    session_id = await world.session(embedded=False)
    saved = await voice_changes.save(world.resources, None, session_id, "Nova")
    await world.voices.put(layout.reference(late).embedding, b"of the one before", JSON)
    assert saved.embedding_file not in world.voices.objects
    assert world.voice_keys() == sorted(
        [layout.reference(late).embedding, *files("nova", session_id, "source.wav", "transcription.txt")]
    )
    await voice_changes.delete(world.resources, None, "nova")
    assert world.voice_keys() == []


async def test_a_voice_saved_by_the_version_before_is_used_and_deleted() -> None:
    world = World()
    await many(world, ["nova"])
    await world.voices.put(layout.voice(None, "nova").embedding, PROMPT, JSON)
    reference = await find_reference(world.resources, Source(voice_id="nova"))
    assert (reference.reference_id, reference.folder) == ("r", "audio/voices/nova/")
    await voice_changes.delete(world.resources, None, "nova")
    assert world.voice_keys() == []


async def test_a_voice_is_deleted_without_the_voices_of_the_owner_it_is_called_as() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(), "Alice")
    session_id = new_id(world.resources.new_id, "alice")
    await sessions.store(world.resources, "alice", session_id, encoded(spoken()), "")
    await voice_changes.save(world.resources, "alice", session_id, "Nova")
    await voice_changes.delete(world.resources, None, "alice")
    assert world.voice_keys() == files("alice/nova", session_id, "source.wav")


async def test_a_delete_that_died_anywhere_is_finished_by_the_sweeper() -> None:
    steps = 0
    while True:
        world = World()
        session_id = await world.session()
        await voice_changes.save(world.resources, None, session_id, "Nova")
        world.blow_after(steps)
        try:
            await voice_changes.delete(world.resources, None, "nova")
        except Crash:
            world.mend()
        else:
            break
        world.later(seconds=TIMEOUT.total_seconds())
        was_begun = not world.voice_keys() or stored(world, "nova").status == "deleting"
        if was_begun:
            with pytest.raises(NotFound):
                await voices.get(world.resources, None, "nova")
        await voice_changes.finish_changes(world.resources)
        if was_begun:
            assert world.voice_keys() == []
            await voice_changes.save(world.resources, None, await world.session(), "Nova")
        else:
            whole(world, "nova", session_id)
        assert world.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 6


async def test_of_two_deletes_one_finds_nothing() -> None:
    world = World()
    await voice_changes.save(world.resources, None, await world.session(), "Nova")
    results = await asyncio.gather(
        *(voice_changes.delete(world.resources, None, "nova") for _ in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results if result] == [NotFound]
    assert world.voice_keys() == []


async def test_the_sweeper_lets_be_what_is_not_its_own() -> None:
    world = World()
    await world.bucket.put(layout.CHANGES + "README.txt", b"not a note", JSON)
    await world.bucket.put(layout.change(world.resources.new_id()), b'{"voice_id": "../.."}', JSON)
    await voice_changes.save(world.resources, None, await world.session(), "Nova")
    world.later(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(world.resources) == 1
    assert world.keys(layout.CHANGES) == [layout.CHANGES + "README.txt"]
    assert len(world.voice_keys()) == 4


async def test_one_damaged_voice_does_not_hide_the_others() -> None:
    world = World()
    for name in ("Ann", "Bob", "Cid"):
        await voice_changes.save(world.resources, None, await world.session(), name)
    await world.voices.put(layout.voice(None, "bob").metadata, b"{", JSON)
    assert [voice.voice_id for voice in (await voices.page(world.resources, None, limit=10)).voices] == [
        "ann",
        "cid",
    ]
    with pytest.raises(NotFound):
        await voices.get(world.resources, None, "bob")
    with pytest.raises(NameTaken):
        await voice_changes.save(world.resources, None, await world.session(), "Bob")


async def many(world: World, ids: list[str]) -> None:
    for voice_id in ids:
        keys = layout.voice(None, voice_id)
        metadata = VoiceMetadata(
            voice_id=voice_id,
            name=voice_id,
            created_at=world.time(),
            source_file=keys.audio,
            embedding_file=keys.embedding,
            status="ready",
            changed_at=world.time(),
            reference_id="r",
        )
        await world.voices.put(keys.metadata, metadata.to_json(), JSON)
        await world.voices.put(keys.audio, b"", "audio/wav")


IDS = ["nova", "nova-2", "nova2", "a", "a-b", "a-b-c", "ab", "0", "z", "zz", "zz-0", *(f"v{n}" for n in range(40))]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 16, 17, 50, 51, 1000])
async def test_paging_gives_each_voice_once_in_order(limit: int) -> None:
    world = World()
    await many(world, IDS)
    seen: list[str] = []
    after = ""
    while True:
        page = await voices.page(world.resources, None, limit=limit, after=after)
        assert len(page.voices) <= limit
        seen += [voice.voice_id for voice in page.voices]
        if page.next_after is None:
            break
        assert page.next_after == seen[-1]
        assert len(page.voices) == limit
        after = page.next_after
    assert seen == sorted(IDS)


async def test_a_page_is_full_where_some_voices_can_not_be_read() -> None:
    world = World()
    await many(world, IDS)
    for damaged in ("a", "a-b", "nova", "v0", "v1", "v10", "v11"):
        await world.voices.put(layout.voice(None, damaged).metadata, b"{", JSON)
    ready = sorted(set(IDS) - {"a", "a-b", "nova", "v0", "v1", "v10", "v11"})
    first = await voices.page(world.resources, None, limit=10)
    assert [voice.voice_id for voice in first.voices] == ready[:10]
    rest = await voices.page(world.resources, None, limit=100, after=ready[9])
    assert [voice.voice_id for voice in rest.voices] == ready[10:]


async def test_a_page_begins_after_any_text() -> None:
    world = World()
    await many(world, IDS)
    for after in ("n", "nova-", "nova-1", "nova-2", "nova/", "~", "\u5c0f", "A"):
        page = await voices.page(world.resources, None, limit=100, after=after)
        assert [voice.voice_id for voice in page.voices] == sorted(id_ for id_ in IDS if id_ > after)


async def test_the_last_page_says_so_exactly() -> None:
    world = World()
    await many(world, ["a", "b"])
    assert (await voices.page(world.resources, None, limit=2)).next_after is None
    assert (await voices.page(world.resources, None, limit=1)).next_after == "a"
    assert (await voices.page(World().resources, None, limit=1)).voices == []


async def test_a_listing_costs_one_listing_and_a_read_each() -> None:
    world = World()
    await many(world, [f"v{n:03}" for n in range(200)])
    world.mend()
    await voices.page(world.resources, None, limit=20)
    assert world.voices.switch.count("list_folders") == 1
    assert world.voices.switch.count("read") <= 20 + 16


class CountingFolders(FakeBucket):
    """Counts the folders that were listed."""

    folders_listed = 0

    async def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        async for name in super().list_folders(prefix, start_after=start_after):
            self.folders_listed += 1
            yield name


@pytest.mark.parametrize("stem", ["v", "v-"])
async def test_a_page_does_not_list_what_is_behind_it(stem: str) -> None:
    world = World()
    await many(world, ["v", *(f"{stem}{n:04}" for n in range(1000))])
    bucket = CountingFolders(world.time)
    bucket.objects = world.voices.objects
    resources = replace(world.resources, voices=bucket)
    first = await voices.page(resources, None, limit=20)
    assert [voice.voice_id for voice in first.voices] == ["v", *(f"{stem}{n:04}" for n in range(19))]
    assert bucket.folders_listed <= 22
    assert bucket.switch.count("read") <= 22
    bucket.folders_listed = 0
    await voices.page(resources, None, limit=20, after=f"{stem}0500")
    assert bucket.folders_listed <= 22


def test_a_dead_save_is_older_than_any_function() -> None:
    assert timedelta(minutes=1) < TIMEOUT
