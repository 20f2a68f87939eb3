"""Voices of an owner are saved and deleted without those of the same name that others have."""

from datetime import timedelta

import pytest

from pipeline.access.owners import new_id, owns
from pipeline.audio.reference_audio import encoded
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.queue_messages import parse_queue_message
from pipeline.contract.records import Request, VoiceMetadata
from pipeline.domain import jobs, sessions, voice_changes, voices
from pipeline.errors import NotFound
from pipeline.ids import Owner
from tests.world import PROMPT, Crash, World, spoken

OWNERS: tuple[Owner, ...] = (None, "alice", "bob")


async def upload(world: World, owner: Owner, *, embedded: bool = True) -> str:
    session_id = new_id(world.resources.new_id, owner)
    await sessions.store(world.resources, owner, session_id, encoded(spoken()), f"I am {owner}.")
    if embedded:
        await world.bucket.put(layout.session(session_id).embedding, PROMPT, JSON)
    return session_id


async def save_for_each(world: World) -> None:
    for owner in OWNERS:
        await voice_changes.save(world.resources, owner, await upload(world, owner), "Nova")


async def is_usable(world: World, owner: Owner) -> bool:
    try:
        metadata = await voices.get(world.resources, owner, "nova")
    except NotFound:
        return False
    keys = layout.voice_files(metadata)
    return {keys.audio, keys.transcription, keys.embedding} <= set(world.voices.objects)


async def usable(world: World) -> list[Owner]:
    return [owner for owner in OWNERS if await is_usable(world, owner)]


@pytest.mark.parametrize("owner", OWNERS)
async def test_a_deletion_removes_the_voice_of_its_owner_only(owner: Owner) -> None:
    world = World()
    await save_for_each(world)
    count = len(world.voices.objects)
    await voice_changes.delete(world.resources, owner, "nova")
    assert await usable(world) == [other for other in OWNERS if other != owner]
    assert len(world.voices.objects) == count * 2 // 3


async def test_an_interrupted_deletion_is_finished_for_its_owner_only() -> None:
    steps = 0
    while True:
        world = World()
        await save_for_each(world)
        world.blow_after(steps)
        try:
            await voice_changes.delete(world.resources, "alice", "nova")
        except Crash:
            world.mend()
        else:
            break
        has_begun = not await is_usable(world, "alice")
        world.later(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
        await voice_changes.finish_changes(world.resources)
        assert await usable(world) == ([None, "bob"] if has_begun else list(OWNERS))
        assert world.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 6


async def test_an_interrupted_save_is_undone_for_its_owner_only() -> None:
    world = World()
    for owner in (None, "bob"):
        await voice_changes.save(world.resources, owner, await upload(world, owner), "Nova")
    before = set(world.voices.objects)
    session_id = await upload(world, "alice")
    world.blow_after(8)
    with pytest.raises(Crash):
        await voice_changes.save(world.resources, "alice", session_id, "Nova")
    world.mend()
    assert set(world.voices.objects) > before
    world.later(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
    await voice_changes.finish_changes(world.resources)
    assert set(world.voices.objects) == before


async def test_the_deletion_of_an_interrupted_save_is_dated() -> None:
    world = World()
    session_id = await upload(world, "alice")
    key = layout.voice("alice", "nova").metadata
    world.blow_after(8)
    with pytest.raises(Crash):
        await voice_changes.save(world.resources, "alice", session_id, "Nova")
    world.mend()
    world.later(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
    world.blow_after(4)  # the sweeper marks the voice as being deleted, and ends
    with pytest.raises(Crash):
        await voice_changes.finish_changes(world.resources)
    marked = VoiceMetadata.model_validate_json(world.voices.objects[key].body)
    assert (marked.status, marked.changed_at) == ("deleting", world.time())


async def requested_prompt(world: World) -> Request:
    message = parse_queue_message(world.synthesis.bodies[-1])
    assert message is not None
    request = await jobs.read_request(world.resources, message.job_id)
    assert request is not None
    return request


async def test_the_prompt_of_a_new_voice_is_computed_for_its_owner() -> None:
    world = World()
    session_id = await upload(world, "alice", embedded=False)
    saved = await voice_changes.save(world.resources, "alice", session_id, "Nova")
    request = await requested_prompt(world)
    assert (request.kind, request.source.owner, request.source.voice_id) == ("embedding", "alice", "nova")
    assert owns("alice", request.job_id)
    assert layout.reference(request).embedding == saved.embedding_file


async def test_a_missing_prompt_is_requested_again_for_its_owner() -> None:
    world = World()
    saved = await voice_changes.save(world.resources, "alice", await upload(world, "alice", embedded=False), "Nova")
    note = layout.change(world.resources.new_id())
    await world.bucket.put(note, b'{"voice_id": "nova", "owner": "alice"}', JSON)
    world.later(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds() + 1)
    assert await voice_changes.finish_changes(world.resources) == 1
    assert len(world.synthesis.bodies) == 2
    assert layout.reference(await requested_prompt(world)).embedding == saved.embedding_file


async def test_a_damaged_record_of_a_change_is_left_for_a_later_version() -> None:
    world = World()
    note = layout.change(world.resources.new_id())
    await world.bucket.put(note, b'{"voice": "nova"}', JSON)
    world.later(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds() + 1)
    assert await voice_changes.finish_changes(world.resources) == 0
    assert world.keys(layout.CHANGES) == [note]


async def test_a_record_of_a_change_that_was_removed_meanwhile_is_settled() -> None:
    world = World()
    await world.bucket.put(layout.change(world.resources.new_id()), b'{"voice_id": "nova"}', JSON)
    world.later(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds() + timedelta(seconds=1).total_seconds())
    assert await voice_changes.finish_changes(world.resources) == 1
    assert world.keys(layout.CHANGES) == []
