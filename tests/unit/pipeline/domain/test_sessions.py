"""Uploads: stored by us or posted to the storage, checked before their first use, gone after half a day."""

import asyncio
import io
from datetime import timedelta

import pytest
import soundfile as sf

from pipeline.audio.reference_audio import encode_wav
from pipeline.contract import layout
from pipeline.contract.records import QuotaUsage
from pipeline.domain import sessions
from pipeline.errors import Expired, InvalidAudio, InvalidInput, NotFound, TooLarge
from pipeline.settings import Settings
from tests.fakes import EPOCH
from tests.speech import voice
from tests.world import World, spoken


async def test_a_session_lives_half_a_day_to_the_millisecond() -> None:
    world = World()
    session_id = await world.session()
    world.later(hours=12, milliseconds=-1)
    await sessions.require(world.resources, None, session_id)
    world.later(milliseconds=1)
    with pytest.raises(Expired, match="2026-01-01T12:00:00Z") as caught:
        await sessions.require(world.resources, None, session_id)
    assert caught.value.field == "session_id"


@pytest.mark.parametrize("session_id", ["", "nova", "0" * 32, "../" * 11, "ffffffffffff7fff8fffffffffffffff"])
async def test_what_is_no_session_id(session_id: str) -> None:
    with pytest.raises(InvalidInput, match="32 hex digits"):
        await sessions.require(World().resources, None, session_id)


async def test_an_unknown_session() -> None:
    world = World()
    with pytest.raises(NotFound, match="upload a reference first"):
        await sessions.require(world.resources, None, world.resources.new_id())


async def test_a_blank_transcription_is_not_stored() -> None:
    world = World()
    session_id = await world.session("", embedded=False)
    assert world.keys() == [layout.session(session_id).audio]


@pytest.mark.parametrize("first_uses", [1, 2, 5])
async def test_first_uses_at_the_same_moment_count_a_posted_recording_once(first_uses: int) -> None:
    world = World()
    session_id, form = await sessions.open_upload(world.resources, "alice", "")
    await world.bucket.put(form.fields["key"], encode_wav(spoken()), "audio/wav")
    await asyncio.gather(*(sessions.require(world.resources, "alice", session_id) for _ in range(first_uses)))
    await sessions.require(world.resources, "alice", session_id)
    (share,) = [world.bucket.objects[key] for key in world.keys(layout.QUOTAS)]
    assert QuotaUsage.model_validate_json(share.body).used == spoken().duration_seconds * 1000


async def test_an_upload_form_says_how_much_and_how_long() -> None:
    world = World()
    resources = world.with_settings(Settings(reference_max_megabytes=2, upload_form_minutes=5))
    session_id, form = await sessions.open_upload(resources, None, "Said.")
    assert form.fields["key"] == layout.session(session_id).unchecked_audio
    assert form.fields["max_bytes"] == str(2 * 1024 * 1024)
    assert form.fields["expires"] == (EPOCH + timedelta(minutes=5)).isoformat()
    assert world.keys() == [layout.session(session_id).transcription]


async def test_what_was_posted_is_checked_at_its_first_use_and_only_then() -> None:
    world = World()
    session_id, form = await sessions.open_upload(world.resources, None, "")
    with pytest.raises(NotFound):
        await sessions.require(world.resources, None, session_id)
    buffer = io.BytesIO()
    sf.write(buffer, spoken().samples, spoken().sample_rate, format="FLAC")
    await world.bucket.put(form.fields["key"], buffer.getvalue(), "audio/flac")
    await sessions.require(world.resources, None, session_id)
    stored = world.bucket.objects[layout.session(session_id).audio]
    assert stored.body.startswith(b"RIFF")
    assert stored.content_type == "audio/wav"
    world.mend()
    await sessions.require(world.resources, None, session_id)
    assert world.bucket.switch.calls == ["head"]


async def test_what_has_been_used_stays_though_something_else_is_posted() -> None:
    world = World()
    session_id, form = await sessions.open_upload(world.resources, None, "")
    await world.bucket.put(form.fields["key"], encode_wav(spoken()), "audio/wav")
    await sessions.require(world.resources, None, session_id)
    first = world.bucket.objects[layout.session(session_id).audio].body
    await world.bucket.put(form.fields["key"], encode_wav(voice(250.0)), "audio/wav")
    await sessions.require(world.resources, None, session_id)
    assert world.bucket.objects[layout.session(session_id).audio].body == first


async def test_two_first_uses_agree() -> None:
    world = World()
    session_id, form = await sessions.open_upload(world.resources, None, "")
    await world.bucket.put(form.fields["key"], encode_wav(voice(250.0)), "audio/wav")
    await world.bucket.put(layout.session(session_id).audio, b"by the other", "audio/wav")
    await sessions.require(world.resources, None, session_id)
    assert world.bucket.objects[layout.session(session_id).audio].body == b"by the other"


async def test_what_was_posted_may_be_no_reference() -> None:
    world = World()
    session_id, form = await sessions.open_upload(world.resources, None, "")
    await world.bucket.put(form.fields["key"], b"nonsense", "audio/wav")
    for _ in range(2):
        with pytest.raises(InvalidAudio):
            await sessions.require(world.resources, None, session_id)
    assert layout.session(session_id).audio not in world.bucket.objects


async def test_a_storage_that_takes_more_than_the_form_allows_is_not_believed() -> None:
    world = World()
    resources = world.with_settings(Settings(reference_max_megabytes=0.01))
    session_id, form = await sessions.open_upload(resources, None, "")
    await world.bucket.put(form.fields["key"], encode_wav(spoken()), "audio/wav")
    with pytest.raises(TooLarge, match=r"at most 0\.01 MB"):
        await sessions.require(resources, None, session_id)


async def test_a_recording_may_have_so_many_bytes_and_no_more() -> None:
    data = encode_wav(spoken())
    resources = World(Settings(reference_max_megabytes=len(data) / 1024 / 1024)).resources

    async def read(data: bytes) -> bytes:
        return data

    recording = await sessions.check_reference(resources, lambda: read(data))
    assert (recording.wav, recording.duration_seconds) == (data, 2)
    with pytest.raises(TooLarge) as caught:
        await sessions.check_reference(resources, lambda: read(data + b"\0"))
    assert caught.value.field == "audio"
