"""Saving and deleting voices."""

from hashlib import sha256

import pytest

from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import encoded
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import KeptConsent
from pipeline.domain import jobs, sessions, voice_changes, voices
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import Expired, InvalidInput, NotFound
from tests.support.fake_service import FakeService, reference_recording
from tests.support.saved_voices import assert_complete, complete_revocations, keys_of_voice, stored_voice

TIMEOUT = voice_changes.CHANGE_TIMEOUT


async def test_save_stores_all_files() -> None:
    fakes = FakeService()
    session_id = await fakes.session("What I say.")
    saved = await voice_changes.save(fakes.resources, None, session_id, " Nova ", "calm")
    assert_complete(fakes, "nova", session_id)
    assert fakes.voice_keys() == keys_of_voice("nova", session_id)
    assert (saved.voice_id, saved.name, saved.description) == ("nova", "Nova", "calm")
    assert (saved.duration_seconds, saved.sample_rate, saved.model) == (2.0, 16_000, "mock")
    assert saved.transcription_file == f"audio/voices/nova/{session_id}/transcription.txt"
    assert fakes.keys(layout.CHANGES) == []
    assert fakes.synthesis.bodies == []
    assert (await voices.get(fakes.resources, None, "nova")).changed_at == saved.changed_at


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
    assert fakes.voice_keys() == keys_of_voice("nova", session_id, "source.wav")
    ticket = parse_queue_message(fakes.synthesis.bodies[0])
    assert ticket is not None
    request = await jobs.read_request(fakes.resources, ticket.job_id)
    assert request is not None
    assert (request.kind, request.source.voice_id, request.reference_id) == ("embedding", "nova", session_id)


async def test_save_with_consent() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    saved = await voice_changes.save(fakes.resources, None, session_id, "Nova", consent=" I agree. ")
    digest = sha256(fakes.bucket.objects[layout.session(session_id).audio].body).hexdigest()
    assert saved.consent == KeptConsent(text="I agree.", given_at=fakes.time(), reference_sha256=digest)
    assert saved.consent.status == "unverified"
    assert stored_voice(fakes, "nova").consent == saved.consent
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


async def test_delete_removes_all_files() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    other = await fakes.session()
    await voice_changes.save(fakes.resources, None, other, "Nova 2")
    await fakes.voices.put(layout.voice(None, "nova").folder + "left-behind", b"", JSON)
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert fakes.voice_keys() == keys_of_voice("nova-2", other)
    await complete_revocations(fakes)
    assert fakes.voice_keys() == keys_of_voice("nova-2", other)
    assert fakes.keys(layout.CHANGES) == []
    with pytest.raises(NotFound, match="nova") as caught:
        await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert caught.value.field == "voice_id"


async def test_deleted_name_is_free() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session("Old."), "Nova")
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    session_id = await fakes.session("New.")
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert_complete(fakes, "nova", session_id)


async def test_voice_named_like_owner() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Alice")
    session_id = new_id(fakes.resources.new_id, "alice")
    await sessions.store(fakes.resources, "alice", session_id, encoded(reference_recording()), "")
    await voice_changes.save(fakes.resources, "alice", session_id, "Nova")
    await revoke_voice(fakes.resources, None, "alice", "deleted")
    assert fakes.voice_keys() == keys_of_voice("alice/nova", session_id, "source.wav")
