"""Changes of voices that have the same name and different owners."""

from datetime import timedelta

import pytest

from pipeline.access.owners import new_id, owns
from pipeline.audio.reference_audio import encoded
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Request, VoiceMetadata
from pipeline.domain import jobs, sessions, voice_changes, voices
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import NotFound
from pipeline.ids import Owner
from tests.support.fake_service import PROMPT, Crash, FakeService, reference_recording
from tests.support.saved_voices import complete_revocations

OWNERS: tuple[Owner, ...] = (None, "alice", "bob")


async def upload(fakes: FakeService, owner: Owner, *, embedded: bool = True) -> str:
    session_id = new_id(fakes.resources.new_id, owner)
    await sessions.store(fakes.resources, owner, session_id, encoded(reference_recording()), f"I am {owner}.")
    if embedded:
        await fakes.bucket.put(layout.session(session_id).embedding, PROMPT, JSON)
    return session_id


async def save_for_each(fakes: FakeService) -> None:
    for owner in OWNERS:
        await voice_changes.save(fakes.resources, owner, await upload(fakes, owner), "Nova")


async def is_usable(fakes: FakeService, owner: Owner) -> bool:
    try:
        metadata = await voices.get(fakes.resources, owner, "nova")
    except NotFound:
        return False
    keys = layout.voice_files(metadata)
    return {keys.audio, keys.transcription, keys.embedding} <= set(fakes.voices.objects)


async def usable(fakes: FakeService) -> list[Owner]:
    return [owner for owner in OWNERS if await is_usable(fakes, owner)]


@pytest.mark.parametrize("owner", OWNERS)
async def test_delete_of_one_owner(owner: Owner) -> None:
    fakes = FakeService()
    await save_for_each(fakes)
    count = len(fakes.voice_keys())
    await revoke_voice(fakes.resources, owner, "nova", "deleted")
    assert await usable(fakes) == [other for other in OWNERS if other != owner]
    assert len(fakes.voice_keys()) == count * 2 // 3


async def test_interrupted_delete_of_one_owner() -> None:
    steps = 0
    while True:
        fakes = FakeService()
        await save_for_each(fakes)
        fakes.fail_after(steps)
        try:
            await revoke_voice(fakes.resources, "alice", "nova", "deleted")
        except Crash:
            fakes.recover()
        else:
            break
        has_begun = bool(fakes.keys(layout.CHANGES))
        await complete_revocations(fakes)
        assert await usable(fakes) == ([None, "bob"] if has_begun else list(OWNERS))
        assert fakes.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 6


async def test_interrupted_save_of_one_owner() -> None:
    fakes = FakeService()
    for owner in (None, "bob"):
        await voice_changes.save(fakes.resources, owner, await upload(fakes, owner), "Nova")
    before = set(fakes.voices.objects)
    session_id = await upload(fakes, "alice")
    fakes.fail_after(12)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, "alice", session_id, "Nova")
    fakes.recover()
    assert set(fakes.voices.objects) > before
    fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
    await voice_changes.finish_changes(fakes.resources)
    assert set(fakes.voices.objects) == before


async def test_interrupted_save_deletion_time() -> None:
    fakes = FakeService()
    session_id = await upload(fakes, "alice")
    key = layout.voice("alice", "nova").metadata
    fakes.fail_after(12)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, "alice", session_id, "Nova")
    fakes.recover()
    fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
    fakes.fail_after(4)  # the sweeper marks the voice as being deleted, and ends
    with pytest.raises(Crash):
        await voice_changes.finish_changes(fakes.resources)
    marked = VoiceMetadata.model_validate_json(fakes.voices.objects[key].body)
    assert (marked.status, marked.changed_at) == ("deleting", fakes.time())


async def requested_prompt(fakes: FakeService) -> Request:
    message = parse_queue_message(fakes.synthesis.bodies[-1])
    assert message is not None
    request = await jobs.read_request(fakes.resources, message.job_id)
    assert request is not None
    return request


async def test_prompt_requested_for_owner() -> None:
    fakes = FakeService()
    session_id = await upload(fakes, "alice", embedded=False)
    saved = await voice_changes.save(fakes.resources, "alice", session_id, "Nova")
    request = await requested_prompt(fakes)
    assert (request.kind, request.source.owner, request.source.voice_id) == ("embedding", "alice", "nova")
    assert owns("alice", request.job_id)
    assert layout.reference(request).embedding == saved.embedding_file


async def test_missing_prompt_requested_again() -> None:
    fakes = FakeService()
    saved = await voice_changes.save(fakes.resources, "alice", await upload(fakes, "alice", embedded=False), "Nova")
    note = layout.change(fakes.resources.new_id())
    await fakes.bucket.put(note, b'{"voice_id": "nova", "owner": "alice"}', JSON)
    fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds() + 1)
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert len(fakes.synthesis.bodies) == 2
    assert layout.reference(await requested_prompt(fakes)).embedding == saved.embedding_file


async def test_damaged_change_record_is_kept() -> None:
    fakes = FakeService()
    note = layout.change(fakes.resources.new_id())
    await fakes.bucket.put(note, b'{"voice": "nova"}', JSON)
    fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds() + 1)
    assert await voice_changes.finish_changes(fakes.resources) == 0
    assert fakes.keys(layout.CHANGES) == [note]


async def test_change_record_of_removed_voice() -> None:
    fakes = FakeService()
    await fakes.bucket.put(layout.change(fakes.resources.new_id()), b'{"voice_id": "nova"}', JSON)
    fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds() + timedelta(seconds=1).total_seconds())
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert fakes.keys(layout.CHANGES) == []
