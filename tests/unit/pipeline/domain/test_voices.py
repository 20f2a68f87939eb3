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
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import KeptConsent, Source, VoiceMetadata
from pipeline.domain import jobs, sessions, voice_changes, voice_renaming, voices
from pipeline.errors import Expired, InvalidInput, NameTaken, NotFound, Unavailable
from tests.support.fake_service import PROMPT, Crash, FakeService, reference_recording
from tests.support.fakes import FakeBucket, Switch

TIMEOUT = voice_changes.CHANGE_TIMEOUT


def stored(fakes: FakeService, voice_id: str) -> VoiceMetadata:
    return VoiceMetadata.model_validate_json(fakes.voices.objects[layout.voice(None, voice_id).metadata].body)


def whole(fakes: FakeService, voice_id: str, session_id: str) -> None:
    """Assert that a voice is all there, of one session and no other."""
    metadata = stored(fakes, voice_id)
    keys, source = layout.voice_files(metadata), layout.session(session_id)
    assert (metadata.status, metadata.reference_id) == ("ready", session_id)
    assert fakes.voices.objects[keys.audio].body == fakes.bucket.objects[source.audio].body
    assert fakes.voices.objects[keys.transcription].body == fakes.bucket.objects[source.transcription].body
    assert fakes.voices.objects[keys.embedding].body == PROMPT


async def test_a_voice_is_kept_with_all_that_it_needs() -> None:
    fakes = FakeService()
    session_id = await fakes.session("What I say.")
    saved = await voice_changes.save(fakes.resources, None, session_id, " Nova ", "calm")
    whole(fakes, "nova", session_id)
    assert fakes.voice_keys() == files("nova", session_id)
    assert (saved.voice_id, saved.name, saved.description) == ("nova", "Nova", "calm")
    assert (saved.duration_seconds, saved.sample_rate, saved.model) == (2.0, 16_000, "mock")
    assert saved.transcription_file == f"audio/voices/nova/{session_id}/transcription.txt"
    assert fakes.keys(layout.CHANGES) == []
    assert fakes.synthesis.bodies == []
    assert (await voices.get(fakes.resources, None, "nova")).changed_at == saved.changed_at


def files(voice_id: str, session_id: str, *names: str) -> list[str]:
    """Return the keys of a voice; all of them unless some are named."""
    names = names or ("embedding.json", "source.wav", "transcription.txt")
    folder = f"audio/voices/{voice_id}"
    return [*(f"{folder}/{session_id}/{name}" for name in names), f"{folder}/metadata.json"]


async def test_a_voice_outlives_its_session() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    fakes.advance(days=365)
    assert (await voices.get(fakes.resources, None, "nova")).name == "Nova"


async def test_a_voice_without_transcription_or_embedding() -> None:
    fakes = FakeService()
    session_id = await fakes.session("", embedded=False)
    saved = await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert saved.transcription_file is None
    assert saved.model is None
    assert fakes.voice_keys() == files("nova", session_id, "source.wav")
    ticket = parse_queue_message(fakes.synthesis.bodies[0])
    assert ticket is not None
    request = await jobs.read_request(fakes.resources, ticket.job_id)
    assert request is not None
    assert (request.kind, request.source.voice_id, request.reference_id) == ("embedding", "nova", session_id)


async def test_the_words_of_consent_are_kept_with_the_voice_and_their_time() -> None:
    fakes = FakeService()
    saved = await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova", consent=" I agree. ")
    assert saved.consent == KeptConsent(text="I agree.", given_at=fakes.time())
    assert stored(fakes, "nova").consent == saved.consent
    assert (
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Ann", consent=" ")
    ).consent is None


async def test_consent_is_a_sentence_and_no_book() -> None:
    fakes = FakeService()
    with pytest.raises(InvalidInput, match="at most 1000 characters; it has 1001") as refused:
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova", consent="x" * 1001)
    assert refused.value.field == "consent"
    assert fakes.voice_keys() == []


async def test_a_renamed_voice_keeps_its_id_and_all_else() -> None:
    fakes = FakeService()
    session_id = await fakes.session("What I say.")
    before = await voice_changes.save(fakes.resources, None, session_id, "Nova", "calm", "I agree.")
    fakes.advance(days=1)
    renamed = await voice_renaming.rename(fakes.resources, None, "nova", name=" Aria ")
    expected = {"name": "Aria", "changed_at": fakes.time()}
    assert renamed.model_dump() == before.model_dump() | expected
    assert (await voice_renaming.rename(fakes.resources, None, "nova", description="")).description == ""
    whole(fakes, "nova", session_id)
    assert (await voices.get(fakes.resources, None, "nova")).name == "Aria"


async def test_two_who_rename_at_once_both_get_their_part() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova", "calm")
    await asyncio.gather(
        voice_renaming.rename(fakes.resources, None, "nova", name="Aria"),
        voice_renaming.rename(fakes.resources, None, "nova", description="hoarse"),
    )
    metadata = stored(fakes, "nova")
    assert (metadata.name, metadata.description) == ("Aria", "hoarse")


async def test_what_can_not_be_renamed() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    for wrong in ({"name": " "}, {"name": "x" * 81}, {"description": "x" * 501}):
        with pytest.raises(InvalidInput):
            await voice_renaming.rename(fakes.resources, None, "nova", **wrong)
    assert stored(fakes, "nova").name == "Nova"
    await voice_changes.delete(fakes.resources, None, "nova")
    with pytest.raises(NotFound):
        await voice_renaming.rename(fakes.resources, None, "nova", name="Aria")


async def test_an_embedding_that_says_no_model_is_kept_all_the_same() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await fakes.bucket.put(layout.session(session_id).embedding, b"[]", JSON)
    assert (await voice_changes.save(fakes.resources, None, session_id, "Nova")).model is None


async def test_what_is_wrong_is_found_before_anything_is_written() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    before = fakes.keys()
    with pytest.raises(InvalidInput):
        await voice_changes.save(fakes.resources, None, session_id, "")
    with pytest.raises(InvalidInput):
        await voice_changes.save(fakes.resources, None, session_id, "Nova", "d" * 501)
    with pytest.raises(InvalidInput):
        await voice_changes.save(fakes.resources, None, "nonsense", "Nova")
    with pytest.raises(NotFound):
        await voice_changes.save(fakes.resources, None, fakes.resources.new_id(), "Nova")
    fakes.advance(hours=12)
    with pytest.raises(Expired):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert (fakes.keys(), fakes.voice_keys()) == (before, [])


@pytest.mark.parametrize("embedded", [True, False])
async def test_a_save_that_died_anywhere_is_finished_by_its_retry(embedded: bool) -> None:
    steps = 0
    while True:
        fakes = FakeService()
        session_id = await fakes.session(embedded=embedded)
        fuse = fakes.fail_after(steps)
        try:
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        except Crash:
            fakes.recover()
        else:
            break
        is_ready = "nova" in [v.voice_id for v in (await voices.page(fakes.resources, None, limit=9)).voices]
        if not is_ready:
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        if not embedded:
            fakes.advance(seconds=TIMEOUT.total_seconds())
            await voice_changes.finish_changes(fakes.resources)
            assert fakes.synthesis.bodies, f"no embedding asked for after {fuse.seen}"
            await fakes.voices.put(layout.voice_files(stored(fakes, "nova")).embedding, PROMPT, JSON)
        whole(fakes, "nova", session_id)
        steps += 1
    assert steps >= 8


async def test_a_save_that_died_anywhere_is_cleared_away_or_complete() -> None:
    steps = 0
    while True:
        fakes = FakeService()
        session_id = await fakes.session()
        fakes.fail_after(steps)
        try:
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        except Crash:
            fakes.recover()
        else:
            break
        fakes.advance(seconds=TIMEOUT.total_seconds())
        await voice_changes.finish_changes(fakes.resources)
        if fakes.voice_keys():
            whole(fakes, "nova", session_id)
        else:
            other = await fakes.session("Someone else.")
            await voice_changes.save(fakes.resources, None, other, "Nova")
            whole(fakes, "nova", other)
        assert fakes.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 8


async def test_a_save_that_died_is_neither_seen_nor_used() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(7)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.recover()
    assert stored(fakes, "nova").status == "saving"
    assert (await voices.page(fakes.resources, None, limit=10)).voices == []
    with pytest.raises(NotFound):
        await voices.get(fakes.resources, None, "nova")
    with pytest.raises(NotFound):
        await voice_changes.delete(fakes.resources, None, "nova")
    with pytest.raises(NameTaken):
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")


async def test_a_save_is_given_its_time_before_it_is_cleared_away() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(7)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.recover()
    fakes.advance(seconds=TIMEOUT.total_seconds(), milliseconds=-1)
    assert await voice_changes.finish_changes(fakes.resources) == 0
    assert fakes.voice_keys()
    fakes.advance(milliseconds=1)
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert (fakes.voice_keys(), fakes.keys(layout.CHANGES)) == ([], [])


async def test_a_save_that_was_taken_up_again_has_its_time_anew() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    for _ in range(2):
        fakes.fail_after(9)
        with pytest.raises(Crash):
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.recover()
        fakes.advance(seconds=TIMEOUT.total_seconds() / 2)
    fakes.advance(seconds=1)
    assert await voice_changes.finish_changes(fakes.resources) == 0
    assert stored(fakes, "nova").status == "saving"


async def test_the_sweeper_can_not_clear_a_save_under_its_owner_without_the_owner_knowing() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    saving = asyncio.ensure_future(voice_changes.save(fakes.resources, None, session_id, "Nova"))
    for _ in range(12):
        await asyncio.sleep(0)
    assert stored(fakes, "nova").status == "saving"
    fakes.advance(seconds=TIMEOUT.total_seconds())
    await voice_changes.finish_changes(fakes.resources)
    try:
        await saving
    except NameTaken:
        assert layout.voice(None, "nova").metadata not in fakes.voices.objects
    else:
        whole(fakes, "nova", session_id)


@pytest.mark.parametrize("head_start", range(30))
async def test_of_two_saves_of_one_name_one_wins_and_nothing_mixes(head_start: int) -> None:
    fakes = FakeService()
    sessions_ = [await fakes.session("I am one."), await fakes.session("I am the other.")]

    async def after(turns: int, session_id: str) -> VoiceMetadata:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await voice_changes.save(fakes.resources, None, session_id, "Nova")

    results = await asyncio.gather(after(0, sessions_[0]), after(head_start, sessions_[1]), return_exceptions=True)
    winners = [
        session_id
        for session_id, result in zip(sessions_, results, strict=True)
        if not isinstance(result, BaseException)
    ]
    assert len(winners) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == 1
    whole(fakes, "nova", winners[0])


@pytest.mark.parametrize("head_start", range(30))
async def test_a_retry_while_the_first_try_still_runs_does_no_harm(head_start: int) -> None:
    fakes = FakeService()
    session_id = await fakes.session()

    async def after(turns: int) -> VoiceMetadata:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await voice_changes.save(fakes.resources, None, session_id, "Nova")

    results = await asyncio.gather(after(0), after(head_start), return_exceptions=True)
    assert any(isinstance(result, VoiceMetadata) for result in results)
    assert all(isinstance(result, VoiceMetadata | NameTaken) for result in results)
    whole(fakes, "nova", session_id)


async def test_a_save_whose_last_answer_was_lost_is_a_save() -> None:
    fakes = FakeService()
    session_id = await fakes.session()

    class LosesAnswers(Switch):
        async def passed(self, call: str) -> None:
            await super().passed(call)
            if call == "replace":
                # The client's own retry finds the object that its first try has written.
                metadata = stored(fakes, "nova")
                ready = metadata.model_copy(
                    update={
                        "status": "ready",
                        "transcription_file": layout.voice_files(metadata).transcription,
                        "duration_seconds": 2.0,
                        "sample_rate": 16_000,
                        "model": "mock",
                    }
                )
                fakes.voices._write(layout.voice(None, "nova").metadata, ready.to_json(), JSON)

    fakes.voices.switch = LosesAnswers()
    assert (await voice_changes.save(fakes.resources, None, session_id, "Nova")).status == "ready"
    whole(fakes, "nova", session_id)


async def test_a_voice_that_is_ready_is_saved_whatever_the_queue_does() -> None:
    fakes = FakeService()
    session_id = await fakes.session(embedded=False)
    fakes.synthesis.switch.is_up = False
    assert (await voice_changes.save(fakes.resources, None, session_id, "Nova")).voice_id == "nova"
    fakes.synthesis.switch.is_up = True
    fakes.advance(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert len(fakes.synthesis.bodies) == 1


async def test_a_storage_that_fails_in_the_middle_is_said() -> None:
    for calls in range(2, 8):
        fakes = FakeService()
        session_id = await fakes.session()
        fakes.fail_after(calls, Unavailable)
        with pytest.raises(Unavailable):
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.recover()
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
        whole(fakes, "nova", session_id)


async def test_deleting_takes_everything() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    other = await fakes.session()
    await voice_changes.save(fakes.resources, None, other, "Nova 2")
    await fakes.voices.put(layout.voice(None, "nova").folder + "left-behind", b"", JSON)
    await voice_changes.delete(fakes.resources, None, "nova")
    assert fakes.voice_keys() == files("nova-2", other)
    assert fakes.keys(layout.CHANGES) == []
    with pytest.raises(NotFound, match="nova") as caught:
        await voice_changes.delete(fakes.resources, None, "nova")
    assert caught.value.field == "voice_id"


async def test_a_deleted_name_is_free_at_once() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session("Old."), "Nova")
    await voice_changes.delete(fakes.resources, None, "nova")
    session_id = await fakes.session("New.")
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    whole(fakes, "nova", session_id)


async def test_what_a_worker_writes_late_does_not_get_into_the_next_voice_of_that_name() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(embedded=False), "Nova")
    message = parse_queue_message(fakes.synthesis.bodies[0])
    assert message is not None
    late = await jobs.read_request(fakes.resources, message.job_id)
    assert late is not None
    await voice_changes.delete(fakes.resources, None, "nova")
    session_id = await fakes.session(embedded=False)
    saved = await voice_changes.save(fakes.resources, None, session_id, "Nova")
    await fakes.voices.put(layout.reference(late).embedding, b"of the one before", JSON)
    assert saved.embedding_file not in fakes.voices.objects
    assert fakes.voice_keys() == sorted(
        [layout.reference(late).embedding, *files("nova", session_id, "source.wav", "transcription.txt")]
    )
    await voice_changes.delete(fakes.resources, None, "nova")
    assert fakes.voice_keys() == []


async def test_a_voice_saved_by_the_version_before_is_used_and_deleted() -> None:
    fakes = FakeService()
    await many(fakes, ["nova"])
    await fakes.voices.put(layout.voice(None, "nova").embedding, PROMPT, JSON)
    reference = await find_reference(fakes.resources, Source(voice_id="nova"))
    assert (reference.reference_id, reference.folder) == ("r", "audio/voices/nova/")
    await voice_changes.delete(fakes.resources, None, "nova")
    assert fakes.voice_keys() == []


async def test_a_voice_is_deleted_without_the_voices_of_the_owner_it_is_called_as() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Alice")
    session_id = new_id(fakes.resources.new_id, "alice")
    await sessions.store(fakes.resources, "alice", session_id, encoded(reference_recording()), "")
    await voice_changes.save(fakes.resources, "alice", session_id, "Nova")
    await voice_changes.delete(fakes.resources, None, "alice")
    assert fakes.voice_keys() == files("alice/nova", session_id, "source.wav")


async def test_a_delete_that_died_anywhere_is_finished_by_the_sweeper() -> None:
    steps = 0
    while True:
        fakes = FakeService()
        session_id = await fakes.session()
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.fail_after(steps)
        try:
            await voice_changes.delete(fakes.resources, None, "nova")
        except Crash:
            fakes.recover()
        else:
            break
        fakes.advance(seconds=TIMEOUT.total_seconds())
        was_begun = not fakes.voice_keys() or stored(fakes, "nova").status == "deleting"
        if was_begun:
            with pytest.raises(NotFound):
                await voices.get(fakes.resources, None, "nova")
        await voice_changes.finish_changes(fakes.resources)
        if was_begun:
            assert fakes.voice_keys() == []
            await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
        else:
            whole(fakes, "nova", session_id)
        assert fakes.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 6


async def test_of_two_deletes_one_finds_nothing() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    results = await asyncio.gather(
        *(voice_changes.delete(fakes.resources, None, "nova") for _ in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results if result] == [NotFound]
    assert fakes.voice_keys() == []


async def test_the_sweeper_lets_be_what_is_not_its_own() -> None:
    fakes = FakeService()
    await fakes.bucket.put(layout.CHANGES + "README.txt", b"not a note", JSON)
    await fakes.bucket.put(layout.change(fakes.resources.new_id()), b'{"voice_id": "../.."}', JSON)
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    fakes.advance(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert fakes.keys(layout.CHANGES) == [layout.CHANGES + "README.txt"]
    assert len(fakes.voice_keys()) == 4


async def test_one_damaged_voice_does_not_hide_the_others() -> None:
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
async def test_paging_gives_each_voice_once_in_order(limit: int) -> None:
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


async def test_a_page_is_full_where_some_voices_can_not_be_read() -> None:
    fakes = FakeService()
    await many(fakes, IDS)
    for damaged in ("a", "a-b", "nova", "v0", "v1", "v10", "v11"):
        await fakes.voices.put(layout.voice(None, damaged).metadata, b"{", JSON)
    ready = sorted(set(IDS) - {"a", "a-b", "nova", "v0", "v1", "v10", "v11"})
    first = await voices.page(fakes.resources, None, limit=10)
    assert [voice.voice_id for voice in first.voices] == ready[:10]
    rest = await voices.page(fakes.resources, None, limit=100, after=ready[9])
    assert [voice.voice_id for voice in rest.voices] == ready[10:]


async def test_a_page_begins_after_any_text() -> None:
    fakes = FakeService()
    await many(fakes, IDS)
    for after in ("n", "nova-", "nova-1", "nova-2", "nova/", "~", "\u5c0f", "A"):
        page = await voices.page(fakes.resources, None, limit=100, after=after)
        assert [voice.voice_id for voice in page.voices] == sorted(id_ for id_ in IDS if id_ > after)


async def test_the_last_page_says_so_exactly() -> None:
    fakes = FakeService()
    await many(fakes, ["a", "b"])
    assert (await voices.page(fakes.resources, None, limit=2)).next_after is None
    assert (await voices.page(fakes.resources, None, limit=1)).next_after == "a"
    assert (await voices.page(FakeService().resources, None, limit=1)).voices == []


async def test_a_listing_costs_one_listing_and_a_read_each() -> None:
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
async def test_a_page_does_not_list_what_is_behind_it(stem: str) -> None:
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


def test_a_dead_save_is_older_than_any_function() -> None:
    assert timedelta(minutes=1) < TIMEOUT
