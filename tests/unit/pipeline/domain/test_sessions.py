"""Uploads: validation at their first use, and expiry."""

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
from tests.support.fake_service import FakeService, reference_recording
from tests.support.fakes.clock import EPOCH
from tests.support.speech import voice


async def test_session_expiry() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.advance(hours=12, milliseconds=-1)
    await sessions.require(fakes.resources, None, session_id)
    fakes.advance(milliseconds=1)
    with pytest.raises(Expired, match="2026-01-01T12:00:00Z") as caught:
        await sessions.require(fakes.resources, None, session_id)
    assert caught.value.field == "session_id"


@pytest.mark.parametrize("session_id", ["", "nova", "0" * 32, "../" * 11, "ffffffffffff7fff8fffffffffffffff"])
async def test_malformed_session_id(session_id: str) -> None:
    with pytest.raises(InvalidInput, match="32 hex digits"):
        await sessions.require(FakeService().resources, None, session_id)


async def test_unknown_session() -> None:
    fakes = FakeService()
    with pytest.raises(NotFound, match="Upload a reference first"):
        await sessions.require(fakes.resources, None, fakes.resources.new_id())


async def test_blank_transcription_is_not_stored() -> None:
    fakes = FakeService()
    session_id = await fakes.session("", embedded=False)
    assert fakes.keys() == [layout.session(session_id).audio]


@pytest.mark.parametrize("first_uses", [1, 2, 5])
async def test_concurrent_first_uses_count_once(first_uses: int) -> None:
    fakes = FakeService()
    session_id, form = await sessions.open_upload(fakes.resources, "alice", "")
    await fakes.bucket.put(form.fields["key"], encode_wav(reference_recording()), "audio/wav")
    await asyncio.gather(*(sessions.require(fakes.resources, "alice", session_id) for _ in range(first_uses)))
    await sessions.require(fakes.resources, "alice", session_id)
    (share,) = [fakes.bucket.objects[key] for key in fakes.keys(layout.QUOTAS)]
    assert QuotaUsage.model_validate_json(share.body).used == reference_recording().duration_seconds * 1000


async def test_upload_form_limits() -> None:
    fakes = FakeService()
    resources = fakes.with_settings(Settings(reference_max_megabytes=2, upload_form_minutes=5))
    session_id, form = await sessions.open_upload(resources, None, "Said.")
    assert form.fields["key"] == layout.session(session_id).unchecked_audio
    assert form.fields["max_bytes"] == str(2 * 1024 * 1024)
    assert form.fields["expires"] == (EPOCH + timedelta(minutes=5)).isoformat()
    assert fakes.keys() == [layout.session(session_id).transcription]


async def test_posted_recording_is_checked_at_first_use() -> None:
    fakes = FakeService()
    session_id, form = await sessions.open_upload(fakes.resources, None, "")
    with pytest.raises(NotFound):
        await sessions.require(fakes.resources, None, session_id)
    buffer = io.BytesIO()
    sf.write(buffer, reference_recording().samples, reference_recording().sample_rate, format="FLAC")
    await fakes.bucket.put(form.fields["key"], buffer.getvalue(), "audio/flac")
    await sessions.require(fakes.resources, None, session_id)
    stored = fakes.bucket.objects[layout.session(session_id).audio]
    assert stored.body.startswith(b"RIFF")
    assert stored.content_type == "audio/wav"
    fakes.recover()
    await sessions.require(fakes.resources, None, session_id)
    assert fakes.bucket.switch.calls == ["head"]


async def test_used_recording_is_not_replaced() -> None:
    fakes = FakeService()
    session_id, form = await sessions.open_upload(fakes.resources, None, "")
    await fakes.bucket.put(form.fields["key"], encode_wav(reference_recording()), "audio/wav")
    await sessions.require(fakes.resources, None, session_id)
    first = fakes.bucket.objects[layout.session(session_id).audio].body
    await fakes.bucket.put(form.fields["key"], encode_wav(voice(250.0)), "audio/wav")
    await sessions.require(fakes.resources, None, session_id)
    assert fakes.bucket.objects[layout.session(session_id).audio].body == first


async def test_concurrent_first_uses_agree() -> None:
    fakes = FakeService()
    session_id, form = await sessions.open_upload(fakes.resources, None, "")
    await fakes.bucket.put(form.fields["key"], encode_wav(voice(250.0)), "audio/wav")
    await fakes.bucket.put(layout.session(session_id).audio, b"by the other", "audio/wav")
    await sessions.require(fakes.resources, None, session_id)
    assert fakes.bucket.objects[layout.session(session_id).audio].body == b"by the other"


async def test_posted_recording_invalid() -> None:
    fakes = FakeService()
    session_id, form = await sessions.open_upload(fakes.resources, None, "")
    await fakes.bucket.put(form.fields["key"], b"nonsense", "audio/wav")
    for _ in range(2):
        with pytest.raises(InvalidAudio):
            await sessions.require(fakes.resources, None, session_id)
    assert layout.session(session_id).audio not in fakes.bucket.objects


async def test_posted_recording_too_large() -> None:
    fakes = FakeService()
    resources = fakes.with_settings(Settings(reference_max_megabytes=0.01))
    session_id, form = await sessions.open_upload(resources, None, "")
    await fakes.bucket.put(form.fields["key"], encode_wav(reference_recording()), "audio/wav")
    with pytest.raises(TooLarge, match=r"at most 0\.01 MB"):
        await sessions.require(resources, None, session_id)


async def test_recording_size_limit() -> None:
    data = encode_wav(reference_recording())
    resources = FakeService(Settings(reference_max_megabytes=len(data) / 1024 / 1024)).resources

    async def read(data: bytes) -> bytes:
        return data

    recording = await sessions.check_reference(resources, lambda: read(data))
    assert (recording.wav, recording.duration_seconds) == (data, 2)
    with pytest.raises(TooLarge) as caught:
        await sessions.check_reference(resources, lambda: read(data + b"\0"))
    assert caught.value.field == "audio"
