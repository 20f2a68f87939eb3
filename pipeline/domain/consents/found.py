"""A consent by its id, without its owner: the recorded one, and the voices that keep a copy."""

import hmac
from dataclasses import dataclass
from hashlib import sha256

from pipeline.access.api_keys import Caller
from pipeline.access.owners import owns
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import KeptConsent, RecordedConsent, VoiceMetadata, VoiceOfConsent
from pipeline.domain import voices
from pipeline.domain.consents import recorded
from pipeline.domain.consents.recorded import StoredConsent
from pipeline.errors import Forbidden, NotFound
from pipeline.ids import is_id


@dataclass(frozen=True, slots=True)
class KeptBy:
    """A voice that keeps a copy, with the ETag of its metadata."""

    named: VoiceOfConsent
    voice: VoiceMetadata
    etag: str


@dataclass(frozen=True, slots=True)
class FoundConsent:
    """The recorded consent, if it has not expired, and the voices with a copy: at least one of them."""

    consent_id: str
    recorded: StoredConsent | None
    kept: list[KeptBy]

    @property
    def record(self) -> RecordedConsent | KeptConsent:
        """The consent, from a voice if there is one."""
        if self.kept and self.kept[0].voice.consent:
            return self.kept[0].voice.consent
        assert self.recorded is not None  # noqa: S101 - see the class
        return self.recorded.record


async def find(resources: Resources, consent_id: str) -> FoundConsent:
    """Return a consent of any owner.

    Raises
    ------
    NotFound
        There is none with that id.
    """
    try:
        stored = await recorded.get(resources, None, consent_id)
    except NotFound:
        stored = None
    kept = await _kept(resources, consent_id) if is_id(consent_id) else []
    if stored is None and not kept:
        raise NotFound(f"There is no consent {consent_id[:64]!r}, or it was revoked.", field="consent_id")
    return FoundConsent(consent_id, stored, kept)


async def find_for(resources: Resources, caller: Caller, consent_id: str) -> FoundConsent:
    """Return a consent to its owner, or to a caller with the scope `admin`.

    Raises
    ------
    NotFound
        There is no such consent.
    """
    if not caller.may("admin") and not owns(caller.owner, consent_id):
        raise recorded.unknown(consent_id)
    return await find(resources, consent_id)


async def recording_of(resources: Resources, consent: FoundConsent) -> bytes:
    """Return the recording of a consent (WAV).

    Raises
    ------
    NotFound
        There is none yet, or it was deleted meanwhile.
    """
    record = consent.record
    if isinstance(record, KeptConsent):
        wav = await resources.voices.get(record.recording_file) if record.recording_file else None
        if wav is None:
            raise recorded.unknown(consent.consent_id)
        return wav
    return await recorded.recording_of(resources, StoredConsent(consent.consent_id, record))


async def find_for_speaker(resources: Resources, consent_id: str, token: str) -> FoundConsent:
    """Return the consent of the speaker with this token.

    Raises
    ------
    NotFound
        There is no consent with that id.
    Forbidden
        The token is another one.
    """
    found = await find(resources, consent_id)
    digest = sha256(token.encode()).hexdigest()
    if not hmac.compare_digest(digest, found.record.token_sha256 or ""):
        raise Forbidden("The link is not valid for this consent.", field="token")
    return found


async def _kept(resources: Resources, consent_id: str) -> list[KeptBy]:
    found = list[KeptBy]()
    async for item in resources.voices.list(layout.voices_of_consent(consent_id)):
        named = VoiceOfConsent.parse_stored(await resources.voices.get(item.key), key=item.key)
        if named is None:
            continue
        voice, etag = await voices.read(resources, named.owner, named.voice_id)
        if voice and voice.is_ready and voice.consent and voice.consent.consent_id == consent_id:
            found.append(KeptBy(named, voice, etag))
    return found
