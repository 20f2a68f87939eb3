"""Recorded consents, and the copy that a voice keeps."""

from datetime import timedelta

import pytest

from pipeline.audio.reference_audio import encoded
from pipeline.contract import layout
from pipeline.domain import kept_consent, voice_changes, voice_consents
from pipeline.domain.voice_consents import StoredConsent
from pipeline.errors import InvalidInput, NotFound
from pipeline.ids import Owner
from tests.support.fake_service import FakeService, reference_recording


async def recorded(fakes: FakeService, name: str = "Mine", owner: Owner = None) -> StoredConsent:
    return await voice_consents.create(
        fakes.resources, owner, name, "en-US", "I agree.", encoded(reference_recording())
    )


async def test_page_of_consents() -> None:
    fakes = FakeService()
    made = []
    for number in range(5):
        made.append((await recorded(fakes, f"Consent {number}")).consent_id)
        fakes.advance(seconds=1)
    first, more = await voice_consents.page(fakes.resources, None, limit=3)
    rest, end = await voice_consents.page(fakes.resources, None, limit=3, after=first[-1].consent_id)
    assert [stored.consent_id for stored in (*first, *rest)] == made
    assert (more, end) == (True, False)


async def test_upload_is_not_consent() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await recorded(fakes)
    found, _ = await voice_consents.page(fakes.resources, None, limit=100)
    assert len(found) == 1
    with pytest.raises(NotFound):
        await voice_consents.get(fakes.resources, None, session_id)


async def test_consent_belongs_to_owner() -> None:
    fakes = FakeService()
    alices = await recorded(fakes, owner="alice")
    assert await voice_consents.page(fakes.resources, "bob", limit=100) == ([], False)
    for call in (voice_consents.get, voice_consents.delete):
        with pytest.raises(NotFound):
            await call(fakes.resources, "bob", alices.consent_id)
    assert (await voice_consents.get(fakes.resources, "alice", alices.consent_id)).record.name == "Mine"


async def test_consent_expires_with_upload() -> None:
    fakes = FakeService()
    stored = await recorded(fakes)
    fakes.advance(seconds=(fakes.resources.settings.upload_retention + timedelta(seconds=1)).total_seconds())
    assert await voice_consents.page(fakes.resources, None, limit=100) == ([], False)
    with pytest.raises(NotFound):
        await voice_consents.get(fakes.resources, None, stored.consent_id)


async def test_voice_keeps_consent() -> None:
    fakes = FakeService()
    stored, session_id = await recorded(fakes), await fakes.session()
    text, recording = await kept_consent.copy_of_recorded(fakes.resources, None, stored.consent_id)
    saved = await voice_changes.save(
        fakes.resources, None, session_id, "Nova", consent=text, consent_recording=recording
    )
    await voice_consents.delete(fakes.resources, None, stored.consent_id)
    assert saved.consent is not None
    assert saved.consent.text == "I agree."
    assert fakes.voices.objects[layout.voice_files(saved).kept_consent_audio].body == recording
    await voice_changes.delete(fakes.resources, None, "nova")
    assert fakes.voice_keys() == []


async def test_delete_consent() -> None:
    fakes = FakeService()
    stored = await recorded(fakes)
    await voice_consents.delete(fakes.resources, None, stored.consent_id)
    assert fakes.keys(layout.UPLOADS) == []


@pytest.mark.parametrize("language", ["", "en_US", "english please", "x" * 36, "en-", "日本"])
async def test_invalid_language_tag(language: str) -> None:
    with pytest.raises(InvalidInput, match="BCP 47"):
        await voice_consents.create(
            FakeService().resources, None, "Mine", language, "", encoded(reference_recording())
        )
