"""The copy of its speaker's consent that a saved voice keeps, until the voice is deleted.

The record is in the voice's `metadata.json`, and the recording, if there is one, is with its reference. A recorded
consent (`recorded`) expires as an upload does. The copy does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout
from pipeline.contract.records import KeptConsent, RecordedConsent, VoiceMetadata, VoiceOfConsent
from pipeline.domain import voices
from pipeline.domain.consents import policy, recorded
from pipeline.domain.consents.recorded import StoredConsent
from pipeline.errors import InvalidInput, NotFound, Unavailable
from pipeline.ids import Owner

_SHARED = set(KeptConsent.model_fields) & set(RecordedConsent.model_fields) - {"text", "given_at"}


@dataclass(frozen=True, slots=True)
class Given:
    """A consent to keep with a voice, and its recording (WAV)."""

    fields: Mapping[str, Any]
    recording: bytes | None = None

    def kept_by(self, voice: VoiceMetadata) -> KeptConsent:
        """Return the record to keep in a voice's metadata."""
        consent = KeptConsent(**{"given_at": voice.created_at} | dict(self.fields))
        if self.recording is None or consent.consent_id is None:
            return consent
        file = layout.voice_files(voice).kept_consent_audio(consent.consent_id)
        return consent.model_copy(update={"recording_file": file})

    def objects(self, owner: Owner, voice: VoiceMetadata) -> list[NewObject]:
        """Return the objects to store for a voice with this consent: the recording, and the voice for the links."""
        consent = self.kept_by(voice)
        if self.recording is None or consent.consent_id is None or consent.recording_file is None:
            return []
        recording = NewObject(consent.recording_file, self.recording, WAV)
        if consent.token_sha256 is None:
            return [recording]
        named = VoiceOfConsent(voice_id=voice.voice_id, owner=owner)
        key = layout.voice_of_consent(consent.consent_id, voice.voice_id)
        return [recording, NewObject(key, named.to_json(), JSON)]


async def given_for(
    resources: Resources, owner: Owner, session_id: str, reference: bytes, text: str, consent_id: str | None
) -> Given | None:
    """Return the consent to keep with a voice that is saved from a session. None if there is none.

    Parameters
    ----------
    resources, owner, session_id
        The session.
    reference
        The session's recording (WAV).
    text
        The words of the consent, used if there is no recorded consent.
    consent_id
        A recorded consent. The default is the one that was recorded for the session.

    Raises
    ------
    NotFound
        There is no such consent.
    InvalidInput
        It is for another reference.
    ConsentRequired
        See `policy.check`.
    """
    if resources.settings.consent == "off":
        return None
    digest = sha256(reference).hexdigest()
    stored = (
        await recorded.get(resources, owner, consent_id)
        if consent_id
        else await of_session(resources, owner, session_id)
    )
    policy.check(resources, stored.record if stored else None, field="consent_id" if consent_id else "session_id")
    if stored is None or (consent_id is None and stored.record.given_at is None):
        return Given({"text": text, "reference_sha256": digest}) if text else None
    _check_bound(stored, digest)
    return await _given(resources, stored, digest)


async def attach(resources: Resources, owner: Owner, voice_id: str, consent_id: str) -> VoiceMetadata:
    """Keep a recorded consent with a saved voice, in place of the one before.

    Raises
    ------
    NotFound
        There is no such voice or consent.
    InvalidInput
        The consent is for another reference.
    Unavailable
        The voice was changed meanwhile.
    """
    voice, etag = await voices.get_with_etag(resources, owner, voice_id)
    stored = await recorded.get(resources, owner, consent_id)
    reference = await resources.voices.get(layout.voice_files(voice).audio)
    if reference is None:
        raise voices.unknown(voice_id)
    digest = sha256(reference).hexdigest()
    _check_bound(stored, digest)
    given = await _given(resources, stored, digest)
    for new in given.objects(owner, voice):
        await resources.voices.put(new.key, new.body, new.content_type)
    changed = voice.model_copy(update={"consent": given.kept_by(voice)})
    key = layout.voice(owner, voice_id).metadata
    if await resources.voices.replace(key, changed.to_json(), JSON, etag=etag) is None:
        raise Unavailable("The voice was changed by another request. Try again.")
    await resources.voices.delete(_files_before(voice, consent_id))
    return changed


def _files_before(voice: VoiceMetadata, consent_id: str) -> list[str]:
    before = voice.consent
    if before is None or before.consent_id == consent_id:
        return []
    named = layout.voice_of_consent(before.consent_id, voice.voice_id) if before.consent_id else None
    return [key for key in (before.recording_file, named) if key]


async def of_session(resources: Resources, owner: Owner, session_id: str) -> StoredConsent | None:
    """Return the latest consent for a session's reference, or None if there is none, or no longer."""
    consent_id = await resources.bucket.get(layout.session(session_id).consent_id)
    if consent_id is None:
        return None
    try:
        return await recorded.get(resources, owner, consent_id.decode())
    except NotFound:
        return None


async def recording_of(resources: Resources, voice: VoiceMetadata) -> bytes | None:
    """Return the recording (WAV) of the consent that a voice keeps, or None if there is none."""
    if voice.consent is None or voice.consent.recording_file is None:
        return None
    return await resources.voices.get(voice.consent.recording_file)


def _check_bound(stored: StoredConsent, digest: str) -> None:
    if stored.record.reference_sha256 not in {None, digest}:
        raise InvalidInput("The consent is for another reference.", field="consent_id")


async def _given(resources: Resources, stored: StoredConsent, digest: str) -> Given:
    record = stored.record
    fields = record.model_dump(include=_SHARED) | {
        "consent_id": stored.consent_id,
        "text": record.text or f"Recorded consent: {record.name} ({record.language})",
        "reference_sha256": digest,
    }
    if record.given_at:
        fields["given_at"] = record.given_at
    return Given(fields, await recorded.recording_of(resources, stored))
