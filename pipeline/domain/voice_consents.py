"""Recorded consents, which are stored as uploads and expire with them. Voices keep a copy (`kept_consent`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.access.owners import new_id, owns
from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout, retention
from pipeline.contract.languages import LANGUAGE_TAG_MAX
from pipeline.contract.records import RecordedConsent
from pipeline.domain import sessions
from pipeline.domain.voice_names import check_consent, check_name
from pipeline.errors import InvalidInput, NotFound
from pipeline.ids import Owner, is_id, lowest_id


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
    record = RecordedConsent(
        name=check_name(name),
        language=check_language(language),
        text=check_consent(text),
        created_at=resources.clock(),
    )
    consent_id = new_id(resources.new_id, owner)
    await sessions.store(resources, owner, consent_id, recording, record.text)
    await _write(resources, consent_id, record)
    return StoredConsent(consent_id, record)


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
        raise _unknown(consent_id)
    return StoredConsent(consent_id, record)


async def page(
    resources: Resources, owner: Owner, *, limit: int, after: str = ""
) -> tuple[Sequence[StoredConsent], bool]:
    """Return consents from the oldest, and whether more follow."""
    found: list[StoredConsent] = []
    oldest = lowest_id(resources.clock() - resources.settings.upload_retention)
    start = layout.session(max(after, oldest)).recorded_consent
    async for item in resources.bucket.list(layout.UPLOADS, start_after=start):
        consent_id = layout.id_in(item.key, layout.UPLOADS)
        if item.key != layout.session(consent_id).recorded_consent or not _may_exist(resources, owner, consent_id):
            continue
        if len(found) == limit:
            return found, True
        if record := await _read(resources, consent_id):
            found.append(StoredConsent(consent_id, record))
    return found, False


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
    await _write(resources, consent_id, renamed)
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
    await resources.bucket.delete([keys.recorded_consent, keys.audio, keys.transcription, keys.embedding])


async def recording_of(resources: Resources, stored: StoredConsent) -> bytes:
    """Return the recording, as a WAV.

    Raises
    ------
    NotFound
        It was deleted meanwhile.
    """
    wav = await resources.bucket.get(layout.session(stored.consent_id).audio)
    if wav is None:
        raise _unknown(stored.consent_id)
    return wav


def _may_exist(resources: Resources, owner: Owner, consent_id: str) -> bool:
    if not is_id(consent_id) or not owns(owner, consent_id):
        return False
    return retention.upload_expires_at(consent_id, resources.settings) > resources.clock()


async def _read(resources: Resources, consent_id: str) -> RecordedConsent | None:
    body = await resources.bucket.get(layout.session(consent_id).recorded_consent)
    return RecordedConsent.parse_stored(body, consent_id=consent_id)


async def _write(resources: Resources, consent_id: str, record: RecordedConsent) -> None:
    await resources.bucket.put(layout.session(consent_id).recorded_consent, record.to_json(), JSON)


def _unknown(consent_id: str) -> NotFound:
    return NotFound(f"There is no voice consent {consent_id[:64]!r}.", field="consent_id")
