"""Recorded consents, which are stored as uploads and expire with them. Voices keep a copy (`kept`)."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from pipeline.access.audit import entries as audit
from pipeline.access.owners import new_id, owns
from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout, retention
from pipeline.contract.languages import LANGUAGE_TAG_MAX
from pipeline.contract.records import RecordedConsent, Source
from pipeline.domain import sessions
from pipeline.domain.voice_names import check_consent, check_name
from pipeline.errors import InvalidInput, NotFound
from pipeline.ids import Owner, is_id


@dataclass(frozen=True, slots=True)
class StoredConsent:
    """A consent with its id."""

    consent_id: str
    record: RecordedConsent


async def create(
    resources: Resources, owner: Owner, name: str, language: str, text: str, recording: EncodedRecording
) -> StoredConsent:
    """Store a validated recording of a consent.

    Raises
    ------
    InvalidInput
        The name, the language or the text is not valid.
    TooMany
        The recording exceeds the rest of the owner's quota.
    """
    now = resources.clock()
    record = RecordedConsent(
        name=check_name(name),
        language=check_language(language),
        text=check_consent(text),
        recording_sha256=sha256(recording.wav).hexdigest(),
        created_at=now,
        given_at=now,
    )
    consent_id = new_id(resources.new_id, owner)
    await sessions.store(resources, owner, consent_id, recording, record.text)
    await audit_given(resources, owner, consent_id, record)
    await add(resources, owner, consent_id, record)
    return StoredConsent(consent_id, record)


async def audit_given(resources: Resources, owner: Owner, consent_id: str, given: RecordedConsent) -> None:
    """Record in the audit log that a consent was given."""
    reference = given.reference or Source(session_id=consent_id)
    hashes = {"reference": given.reference_sha256, "recording": given.recording_sha256}
    await audit.record(
        resources,
        owner,
        "consent_given",
        reference.voice_id,
        entry_id=consent_id,
        session_id=reference.session_id,
        hashes={name: value for name, value in hashes.items() if value},
    )


def check_language(language: str) -> str:
    """Return a language tag if it has the form of one.

    Raises
    ------
    InvalidInput
        It has not.
    """
    parts = language.split("-")
    if len(language) > LANGUAGE_TAG_MAX or not all(part.isascii() and part.isalnum() for part in parts):
        raise InvalidInput("language should be a BCP 47 tag, such as `en-US`.", field="language")
    return language


async def get(resources: Resources, owner: Owner, consent_id: str) -> StoredConsent:
    """Return a consent.

    Raises
    ------
    NotFound
        There is none with that id, or no longer.
    """
    record = await _read(resources, consent_id) if _may_exist(resources, owner, consent_id) else None
    if record is None:
        raise unknown(consent_id)
    return StoredConsent(consent_id, record)


async def page(
    resources: Resources, owner: Owner, *, limit: int, after: str = ""
) -> tuple[Sequence[StoredConsent], bool]:
    """Return consents from the oldest, and whether more follow. Without an owner, those of all owners."""
    found: list[StoredConsent] = []
    async for consent_id in _listed(resources, owner, after):
        if not _may_exist(resources, owner, consent_id):
            continue
        if len(found) == limit:
            return found, True
        if record := await _read(resources, consent_id):
            found.append(StoredConsent(consent_id, record))
    return found, False


async def _listed(resources: Resources, owner: Owner, after: str) -> AsyncIterator[str]:
    """Yield the ids of the consents of an owner, or of all, in order."""
    now = resources.clock()
    first = now - resources.settings.upload_retention
    for day in (first + timedelta(days=days) for days in range((now.date() - first.date()).days + 1)):
        folder = layout.listed_consents(day, owner)
        start_after = folder + after if owner and after else ""
        keys = [item.key async for item in resources.bucket.list(folder, start_after=start_after)]
        for consent_id in sorted(map(layout.id_of_listed_consent, keys)):
            if consent_id > after:
                yield consent_id


async def rename(resources: Resources, owner: Owner, consent_id: str, name: str) -> StoredConsent:
    """Change a consent's name.

    Raises
    ------
    InvalidInput, NotFound
        The name is not valid, or there is no such consent.
    """
    name = check_name(name)
    stored = await get(resources, owner, consent_id)
    renamed = stored.record.model_copy(update={"name": name})
    await write(resources, consent_id, renamed)
    return StoredConsent(consent_id, renamed)


async def delete(resources: Resources, owner: Owner, consent_id: str) -> None:
    """Delete a consent and its recording. A voice that was made with it keeps its copy.

    Raises
    ------
    NotFound
        There is none with that id.
    """
    await get(resources, owner, consent_id)
    keys = layout.session(consent_id)
    listed = layout.listed_consent(owner, consent_id)
    await resources.bucket.delete([keys.recorded_consent, keys.audio, keys.transcription, keys.embedding, listed])


async def recording_of(resources: Resources, stored: StoredConsent) -> bytes:
    """Return the recording, as a WAV.

    Raises
    ------
    NotFound
        There is none yet, or it was deleted meanwhile.
    """
    wav = await resources.bucket.get(layout.session(stored.consent_id).audio)
    if wav is None:
        raise unknown(stored.consent_id)
    return wav


def _may_exist(resources: Resources, owner: Owner, consent_id: str) -> bool:
    if not is_id(consent_id) or not owns(owner, consent_id):
        return False
    return retention.upload_expires_at(consent_id, resources.settings) > resources.clock()


async def change(resources: Resources, consent_id: str, **fields: object) -> RecordedConsent | None:
    """Change fields of a consent. Return None if it does not exist. After a concurrent change, it is read again."""
    key = layout.session(consent_id).recorded_consent
    while stored := await resources.bucket.read(key):
        record = RecordedConsent.model_validate_json(stored.body).model_copy(update=fields)
        if await resources.bucket.replace(key, record.to_json(), JSON, etag=stored.etag):
            return record
    return None


async def _read(resources: Resources, consent_id: str) -> RecordedConsent | None:
    body = await resources.bucket.get(layout.session(consent_id).recorded_consent)
    return RecordedConsent.parse_stored(body, consent_id=consent_id)


async def add(resources: Resources, owner: Owner, consent_id: str, record: RecordedConsent) -> None:
    """List a new consent for its owner, and write its record."""
    await resources.bucket.put(layout.listed_consent(owner, consent_id), b"", "text/plain")
    await write(resources, consent_id, record)


async def write(resources: Resources, consent_id: str, record: RecordedConsent) -> None:
    """Write or replace the record of a consent."""
    await resources.bucket.put(layout.session(consent_id).recorded_consent, record.to_json(), JSON)


def unknown(consent_id: str) -> NotFound:
    """Return the error for a consent that does not exist."""
    return NotFound(f"There is no voice consent {consent_id[:64]!r}.", field="consent_id")
