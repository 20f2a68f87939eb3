"""How a consent is given: the service provides a statement, and the speaker's recording of it is stored."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from pipeline.access import rate_limits
from pipeline.access.owners import new_id
from pipeline.audio.wav import WAV, EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.languages import language_named
from pipeline.contract.records import RecordedConsent, Source
from pipeline.domain import sessions, voices
from pipeline.domain.consents import recorded, statements
from pipeline.domain.consents.recorded import StoredConsent
from pipeline.domain.voice_names import check_name
from pipeline.errors import InvalidInput, NameTaken, NotFound
from pipeline.ids import Owner

PURPOSES_MAX = 10


@dataclass(frozen=True, slots=True)
class Terms:
    """What a speaker consents to. `languages` are names or tags, empty for all."""

    person: str
    purposes: Sequence[str]
    languages: Sequence[str] = ()
    expires_at: datetime | None = None


async def prepare(
    resources: Resources, owner: Owner, reference: Source, terms: Terms, language: str
) -> tuple[StoredConsent, str]:
    """Create a consent for a session or a saved voice. Return it with its statement, and the token for its speaker.

    Only the hash of the token is stored.

    Raises
    ------
    InvalidInput, NotFound, Expired, InvalidAudio
        A term or the reference is not valid.
    """
    if resources.settings.consent == "off":
        raise NotFound("This service stores no consents: CONSENT is off.")
    person, purposes = check_name(terms.person, field="person"), _check_purposes(terms.purposes)
    now, code, token = resources.clock(), statements.new_code(), secrets.token_urlsafe(32)
    if terms.expires_at is not None and terms.expires_at <= now:
        raise InvalidInput("expires_at is in the past. It should be in the future.", field="expires_at")
    operator, language = resources.settings.operator, _language(language, field="language")
    record = RecordedConsent(
        name=person,
        language=language,
        text=statements.statement(language, person, operator, purposes, now, code),
        code=code,
        person=person,
        purposes=purposes,
        languages=tuple(_language(one, field="languages") for one in terms.languages),
        expires_at=terms.expires_at,
        operator=operator,
        reference=reference,
        reference_sha256=sha256(await reference_wav(resources, reference)).hexdigest(),
        token_sha256=sha256(token.encode()).hexdigest(),
        created_at=now,
    )
    consent_id = new_id(resources.new_id, owner)
    await recorded.add(resources, owner, consent_id, record)
    if reference.session_id:
        await resources.bucket.put(
            layout.session(reference.session_id).consent_id, consent_id.encode(), sessions.TEXT
        )
    return StoredConsent(consent_id, record), token


async def give(resources: Resources, owner: Owner, consent_id: str, recording: EncodedRecording) -> StoredConsent:
    """Store the recording of a consent's statement. It is checked and reviewed later.

    Raises
    ------
    NotFound
        There is no such consent.
    NameTaken
        It has a recording already.
    TooMany
        The recording exceeds the rest of the owner's quota.
    """
    stored = await recorded.get(resources, owner, consent_id)
    key = layout.session(consent_id).audio
    await rate_limits.take_reference_seconds(resources, owner, recording.duration_seconds)
    if await resources.bucket.put_once(key, recording.wav, WAV) is None:
        await rate_limits.return_reference_seconds(resources, owner, recording.duration_seconds)
        if await resources.bucket.get(key) != recording.wav:
            raise NameTaken("This consent has a recording already. Create another consent.", field="recording")
    given = stored.record.model_copy(
        update={
            "recording_sha256": sha256(recording.wav).hexdigest(),
            "given_at": stored.record.given_at or resources.clock(),
        }
    )
    await recorded.audit_given(resources, owner, consent_id, given)
    await recorded.write(resources, consent_id, given)
    return StoredConsent(consent_id, given)


async def reference_wav(resources: Resources, reference: Source) -> bytes:
    """Return the recording of a consent's reference.

    Raises
    ------
    NotFound, Expired, InvalidAudio
        It can't be used.
    """
    if reference.session_id is not None:
        await sessions.require(resources, reference.owner, reference.session_id)
        key = layout.session(reference.session_id).audio
    else:
        key = layout.voice_files(await voices.get(resources, reference.owner, reference.voice_id or "")).audio
    wav = await resources.bucket_of(reference).get(key)
    if wav is None:
        raise NotFound("The reference was deleted.", field="session_id" if reference.session_id else "voice_id")
    return wav


def _check_purposes(purposes: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(purposes) <= PURPOSES_MAX:
        raise InvalidInput(f"purposes should have 1 to {PURPOSES_MAX} items.", field="purposes")
    return tuple(check_name(purpose, field="purposes") for purpose in purposes)


def _language(language: str, *, field: str) -> str:
    try:
        name = language_named(language)
    except ValueError as error:
        raise InvalidInput(f"{field} {error}.", field=field) from None
    if name == "Auto":
        raise InvalidInput(f"{field} should name a language. `Auto` is not one.", field=field)
    return name
