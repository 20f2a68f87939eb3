"""Statements to read aloud, their recordings, and the setting `CONSENT`."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from functions.previews.requests import find_reference, preview_request
from pipeline.audio.reference_audio import encoded
from pipeline.contract import layout
from pipeline.contract.languages import LANGUAGES
from pipeline.contract.records import ConsentCheck, ConsentReview, Options, Source
from pipeline.domain import sessions, voice_changes, voices
from pipeline.domain.consents import giving, recorded, statements
from pipeline.domain.consents.giving import Terms
from pipeline.domain.consents.recorded import StoredConsent
from pipeline.errors import ConsentRequired, InvalidInput, NameTaken, NotFound
from pipeline.settings import Settings
from tests.support.fake_service import FakeService, reference_recording
from tests.support.speech import voice

ALICE = Terms("Alice Smith", ("audio books",), ("en",))
PASSED = {
    "words": 0.9,
    "words_min": 0.6,
    "wrong_digits": 1,
    "wrong_digits_max": 2,
    "speaker": 0.8,
    "speaker_min": 0.7,
}


def requiring() -> FakeService:
    return FakeService(Settings(consent="require", operator="Example Audio"))


async def consent_for(fakes: FakeService, session_id: str, terms: Terms = ALICE) -> StoredConsent:
    stored, _ = await giving.prepare(fakes.resources, None, Source(session_id=session_id), terms, "en")
    return await giving.give(fakes.resources, None, stored.consent_id, encoded(reference_recording()))


async def verify(fakes: FakeService, stored: StoredConsent, **changed: Any) -> None:
    check = ConsentCheck(checked_at=fakes.time(), **PASSED | changed)
    await recorded.write(fakes.resources, stored.consent_id, stored.record.model_copy(update={"check": check}))


async def preview(fakes: FakeService, language: str = "Auto", **source: str) -> None:
    named = Source.model_validate(source)
    reference = await find_reference(fakes.resources, named)
    preview_request(fakes.resources, named, reference, "Hello.", Options(language=language))


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "Auto"])
def test_statement_in_each_language(language: str) -> None:
    moment = FakeService().time()
    text = statements.statement(language, "Ann", "Example Audio", ("books", "games"), moment, "012345")
    assert all(part in text for part in ("Ann", "Example Audio", "books, games", "2026", "0 1 2 3 4 5"))


async def test_consent_is_bound_to_reference() -> None:
    fakes = requiring()
    session_id = await fakes.session()
    source = Source(session_id=session_id)
    stored, token = await giving.prepare(fakes.resources, None, source, ALICE, "en-US")
    record = stored.record
    audio = fakes.bucket.objects[layout.session(session_id).audio].body
    assert record.reference_sha256 == sha256(audio).hexdigest()
    assert record.token_sha256 == sha256(token.encode()).hexdigest()
    assert (record.language, record.languages, record.operator) == ("English", ("English",), "Example Audio")
    assert "Example Audio" in record.text
    assert record.text.endswith(" ".join(record.code or "") + ".")
    assert token.encode() not in b"".join(one.body for one in fakes.bucket.objects.values())


async def test_second_recording_is_refused() -> None:
    fakes = requiring()
    stored = await consent_for(fakes, await fakes.session())
    again = await giving.give(fakes.resources, None, stored.consent_id, encoded(reference_recording()))
    assert again.record == stored.record
    with pytest.raises(NameTaken, match="has a recording already"):
        await giving.give(fakes.resources, None, stored.consent_id, encoded(voice(200.0)))


@pytest.mark.parametrize(
    ("terms", "language", "field"),
    [
        (Terms(" ", ("books",)), "en", "person"),
        (Terms("Ann", ()), "en", "purposes"),
        (Terms("Ann", ("books",) * 11), "en", "purposes"),
        (Terms("Ann", ("",)), "en", "purposes"),
        (Terms("Ann", ("books",), ("xx",)), "en", "languages"),
        (Terms("Ann", ("books",)), "Auto", "language"),
        (Terms("Ann", ("books",), (), FakeService().time() - timedelta(days=1)), "en", "expires_at"),
    ],
)
async def test_invalid_terms(terms: Terms, language: str, field: str) -> None:
    fakes = FakeService()
    source = Source(session_id=await fakes.session())
    with pytest.raises(InvalidInput) as refused:
        await giving.prepare(fakes.resources, None, source, terms, language)
    assert refused.value.field == field


async def test_required_consent_of_session() -> None:
    fakes = requiring()
    session_id = await fakes.session()
    for call in (preview(fakes, session_id=session_id), voice_changes.save(fakes.resources, None, session_id, "A")):
        with pytest.raises(ConsentRequired, match="no consent") as refused:
            await call
        assert refused.value.field == "session_id"
    assert fakes.voice_keys() == []
    stored = await consent_for(fakes, session_id)
    with pytest.raises(ConsentRequired, match="not verified"):
        await preview(fakes, session_id=session_id)
    await verify(fakes, stored)
    await preview(fakes, session_id=session_id)
    saved = await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert saved.consent is not None
    assert (saved.consent.status, saved.consent.consent_id) == ("verified", stored.consent_id)
    await preview(fakes, "English", voice_id="nova")
    with pytest.raises(ConsentRequired, match="includes English, not German") as refused:
        await preview(fakes, "German", voice_id="nova")
    assert refused.value.field == "language"


async def test_expired_consent_stops_use() -> None:
    fakes = requiring()
    session_id = await fakes.session()
    terms = Terms("Ann", ("books",), expires_at=fakes.time() + timedelta(hours=1))
    await verify(fakes, await consent_for(fakes, session_id, terms))
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    await preview(fakes, voice_id="nova")
    fakes.advance(hours=1)
    with pytest.raises(ConsentRequired, match="expired at 2026-01-01T01:00:00Z") as refused:
        await preview(fakes, voice_id="nova")
    assert refused.value.field == "voice_id"


@pytest.mark.parametrize(
    "changed", [{"words": 0.5}, {"words": None}, {"wrong_digits": 3}, {"speaker": 0.6}, {"speaker": None}]
)
async def test_failed_check_is_unverified(changed: dict[str, float | None]) -> None:
    fakes = requiring()
    session_id = await fakes.session()
    await verify(fakes, await consent_for(fakes, session_id), **changed)
    with pytest.raises(ConsentRequired, match="not verified"):
        await preview(fakes, session_id=session_id)


async def test_rejected_consent_stops_use() -> None:
    fakes = requiring()
    session_id = await fakes.session()
    stored = await consent_for(fakes, session_id)
    review = ConsentReview(decision="rejected", reviewed_at=fakes.time())
    await recorded.write(fakes.resources, stored.consent_id, stored.record.model_copy(update={"review": review}))
    with pytest.raises(ConsentRequired, match="rejected"):
        await preview(fakes, session_id=session_id)


async def test_consent_of_other_reference() -> None:
    fakes = FakeService()
    stored = await consent_for(fakes, await fakes.session())
    other = fakes.resources.new_id()
    await sessions.store(fakes.resources, None, other, encoded(voice(200.0)), "")
    with pytest.raises(InvalidInput, match="another reference") as refused:
        await voice_changes.save(fakes.resources, None, other, "Nova", consent_id=stored.consent_id)
    assert refused.value.field == "consent_id"


async def test_consents_off() -> None:
    fakes = FakeService(Settings(consent="off"))
    session_id = await fakes.session()
    with pytest.raises(NotFound, match="CONSENT is off"):
        await consent_for(fakes, session_id)
    await voice_changes.save(fakes.resources, None, session_id, "Nova", consent="I agree.")
    assert (await voices.get(fakes.resources, None, "nova")).consent is None
