"""Recorded consents, and the copy that a voice keeps."""

from datetime import timedelta

import pytest

from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import encoded
from pipeline.contract import layout
from pipeline.domain import voice_changes
from pipeline.domain.consents import recorded
from pipeline.domain.consents.recorded import StoredConsent
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import InvalidInput, NotFound
from pipeline.ids import Owner
from tests.support.fake_service import FakeService, reference_recording


async def new_consent(fakes: FakeService, name: str = "Mine", owner: Owner = None) -> StoredConsent:
    return await recorded.create(fakes.resources, owner, name, "en-US", "I agree.", encoded(reference_recording()))


async def test_page_of_consents() -> None:
    fakes = FakeService()
    made = []
    for number in range(5):
        made.append((await new_consent(fakes, f"Consent {number}")).consent_id)
        fakes.advance(seconds=1)
    first, more = await recorded.page(fakes.resources, None, limit=3)
    rest, end = await recorded.page(fakes.resources, None, limit=3, after=first[-1].consent_id)
    assert [stored.consent_id for stored in (*first, *rest)] == made
    assert (more, end) == (True, False)


async def test_page_of_two_days() -> None:
    fakes = FakeService()
    fakes.advance(hours=23)
    made = []
    for owner in ("alice", "bob", "alice"):
        made.append((await new_consent(fakes, owner=owner)).consent_id)
        fakes.advance(hours=1)
    assert [stored.consent_id for stored in (await recorded.page(fakes.resources, None, limit=9))[0]] == made
    for after, rest in (("", made[::2]), (made[0], made[2:]), (made[2], [])):
        found, _ = await recorded.page(fakes.resources, "alice", limit=9, after=after)
        assert [stored.consent_id for stored in found] == rest


async def test_page_costs_no_other_owners() -> None:
    fakes = FakeService()
    for number in range(2000):
        other = f"owner-{number}"
        key = layout.listed_consent(other, new_id(fakes.resources.new_id, other))
        await fakes.bucket.put(key, b"", "text/plain")
    await new_consent(fakes, owner="alice")
    fakes.advance(hours=11)
    fakes.recover()
    found, _ = await recorded.page(fakes.resources, "alice", limit=20)
    assert len(found) == 1
    assert fakes.bucket.switch.calls == ["list", "list", "read"]  # of two days


async def test_upload_is_not_consent() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    await new_consent(fakes)
    found, _ = await recorded.page(fakes.resources, None, limit=100)
    assert len(found) == 1
    with pytest.raises(NotFound):
        await recorded.get(fakes.resources, None, session_id)


async def test_consent_belongs_to_owner() -> None:
    fakes = FakeService()
    alices = await new_consent(fakes, owner="alice")
    assert await recorded.page(fakes.resources, "bob", limit=100) == ([], False)
    for call in (recorded.get, recorded.delete):
        with pytest.raises(NotFound):
            await call(fakes.resources, "bob", alices.consent_id)
    assert (await recorded.get(fakes.resources, "alice", alices.consent_id)).record.name == "Mine"


async def test_consent_expires_with_upload() -> None:
    fakes = FakeService()
    stored = await new_consent(fakes)
    fakes.advance(seconds=(fakes.resources.settings.upload_retention + timedelta(seconds=1)).total_seconds())
    assert await recorded.page(fakes.resources, None, limit=100) == ([], False)
    with pytest.raises(NotFound):
        await recorded.get(fakes.resources, None, stored.consent_id)


async def test_voice_keeps_consent() -> None:
    fakes = FakeService()
    stored, session_id = await new_consent(fakes), await fakes.session()
    recording = await recorded.recording_of(fakes.resources, stored)
    saved = await voice_changes.save(fakes.resources, None, session_id, "Nova", consent_id=stored.consent_id)
    await recorded.delete(fakes.resources, None, stored.consent_id)
    assert saved.consent is not None
    assert (saved.consent.text, saved.consent.status) == ("I agree.", "unverified")
    assert fakes.voices.objects[layout.voice_files(saved).kept_consent_audio(stored.consent_id)].body == recording
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert fakes.voice_keys() == []


async def test_delete_consent() -> None:
    fakes = FakeService()
    stored = await new_consent(fakes)
    await recorded.delete(fakes.resources, None, stored.consent_id)
    assert fakes.keys(layout.UPLOADS) == fakes.keys(layout.LISTED_CONSENTS) == []


@pytest.mark.parametrize("language", ["", "en_US", "english please", "x" * 36, "en-", "日本"])
async def test_invalid_language_tag(language: str) -> None:
    with pytest.raises(InvalidInput, match="BCP 47"):
        await recorded.create(FakeService().resources, None, "Mine", language, "", encoded(reference_recording()))
