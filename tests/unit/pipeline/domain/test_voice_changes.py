"""Saving and deleting voices: interrupted, concurrent, and while the storage fails."""

import asyncio
from datetime import timedelta

import pytest

from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import encoded
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import KeptConsent, VoiceMetadata
from pipeline.domain import jobs, sessions, voice_changes, voices
from pipeline.errors import Expired, InvalidInput, NameTaken, NotFound, Unavailable
from tests.support.fake_service import PROMPT, Crash, FakeService, reference_recording
from tests.support.fakes.switch import Switch

TIMEOUT = voice_changes.CHANGE_TIMEOUT


def stored(fakes: FakeService, voice_id: str) -> VoiceMetadata:
    return VoiceMetadata.model_validate_json(fakes.voices.objects[layout.voice(None, voice_id).metadata].body)


def whole(fakes: FakeService, voice_id: str, session_id: str) -> None:
    """Assert that a voice is complete, with the files of one session only."""
    metadata = stored(fakes, voice_id)
    keys, source = layout.voice_files(metadata), layout.session(session_id)
    assert (metadata.status, metadata.reference_id) == ("ready", session_id)
    assert fakes.voices.objects[keys.audio].body == fakes.bucket.objects[source.audio].body
    assert fakes.voices.objects[keys.transcription].body == fakes.bucket.objects[source.transcription].body
    assert fakes.voices.objects[keys.embedding].body == PROMPT


async def test_save_stores_all_files() -> None:
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


async def test_voice_outlives_session() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    fakes.advance(days=365)
    assert (await voices.get(fakes.resources, None, "nova")).name == "Nova"


async def test_save_without_embedding() -> None:
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


async def test_save_with_consent() -> None:
    fakes = FakeService()
    saved = await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova", consent=" I agree. ")
    assert saved.consent == KeptConsent(text="I agree.", given_at=fakes.time())
    assert stored(fakes, "nova").consent == saved.consent
    assert (
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Ann", consent=" ")
    ).consent is None


async def test_consent_too_long() -> None:
    fakes = FakeService()
    with pytest.raises(InvalidInput, match=r"at most 1000 characters. It has 1001") as refused:
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova", consent="x" * 1001)
    assert refused.value.field == "consent"
    assert fakes.voice_keys() == []


async def test_save_with_other_embedding() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await fakes.bucket.put(layout.session(session_id).embedding, b"[]", JSON)
    assert (await voice_changes.save(fakes.resources, None, session_id, "Nova")).model is None


async def test_save_invalid_writes_nothing() -> None:
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
async def test_interrupted_save_is_retried(embedded: bool) -> None:
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


async def test_interrupted_save_is_swept() -> None:
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


async def test_interrupted_save_is_invisible() -> None:
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


async def test_sweep_waits_for_timeout() -> None:
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


async def test_retried_save_restarts_timeout() -> None:
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


async def test_sweep_during_save() -> None:
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
async def test_concurrent_saves_of_one_name(head_start: int) -> None:
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
async def test_concurrent_retry_of_save(head_start: int) -> None:
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


async def test_save_with_lost_response() -> None:
    fakes = FakeService()
    session_id = await fakes.session()

    class LosesAnswers(Switch):
        async def passed(self, call: str) -> None:
            await super().passed(call)
            if call == "replace":
                # The client's retry finds the object that its first attempt has written.
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


async def test_save_while_queue_unavailable() -> None:
    fakes = FakeService()
    session_id = await fakes.session(embedded=False)
    fakes.synthesis.switch.is_up = False
    assert (await voice_changes.save(fakes.resources, None, session_id, "Nova")).voice_id == "nova"
    fakes.synthesis.switch.is_up = True
    fakes.advance(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert len(fakes.synthesis.bodies) == 1


async def test_save_while_storage_fails() -> None:
    for calls in range(2, 8):
        fakes = FakeService()
        session_id = await fakes.session()
        fakes.fail_after(calls, Unavailable)
        with pytest.raises(Unavailable):
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.recover()
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
        whole(fakes, "nova", session_id)


async def test_delete_removes_all_files() -> None:
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


async def test_deleted_name_is_free() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session("Old."), "Nova")
    await voice_changes.delete(fakes.resources, None, "nova")
    session_id = await fakes.session("New.")
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    whole(fakes, "nova", session_id)


async def test_late_embedding_of_deleted_voice() -> None:
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


async def test_voice_named_like_owner() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Alice")
    session_id = new_id(fakes.resources.new_id, "alice")
    await sessions.store(fakes.resources, "alice", session_id, encoded(reference_recording()), "")
    await voice_changes.save(fakes.resources, "alice", session_id, "Nova")
    await voice_changes.delete(fakes.resources, None, "alice")
    assert fakes.voice_keys() == files("alice/nova", session_id, "source.wav")


async def test_interrupted_delete_is_swept() -> None:
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


async def test_concurrent_deletes() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    results = await asyncio.gather(
        *(voice_changes.delete(fakes.resources, None, "nova") for _ in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results if result] == [NotFound]
    assert fakes.voice_keys() == []


async def test_sweep_ignores_other_objects() -> None:
    fakes = FakeService()
    await fakes.bucket.put(layout.CHANGES + "README.txt", b"not a note", JSON)
    await fakes.bucket.put(layout.change(fakes.resources.new_id()), b'{"voice_id": "../.."}', JSON)
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    fakes.advance(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert fakes.keys(layout.CHANGES) == [layout.CHANGES + "README.txt"]
    assert len(fakes.voice_keys()) == 4


def test_change_timeout() -> None:
    assert timedelta(minutes=1) < TIMEOUT
