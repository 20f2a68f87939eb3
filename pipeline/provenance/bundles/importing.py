"""Import of a voice bundle. It is validated as a whole before anything is stored, and saved like a session."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from pydantic import BaseModel, Field, ValidationError

from pipeline.access.audit.entries import record
from pipeline.access.owners import new_id
from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import ImportedVoice, KeptConsent, UtcSeconds, VoiceMetadata
from pipeline.domain import sessions, voice_changes
from pipeline.domain.consents import policy
from pipeline.domain.consents.kept import Given
from pipeline.domain.voice_changes import Import
from pipeline.domain.voice_names import check_consent, check_description, check_name
from pipeline.errors import InvalidAudio
from pipeline.ids import Owner
from pipeline.provenance.bundles import archive, signature
from pipeline.provenance.bundles.archive import invalid
from pipeline.provenance.bundles.signature import Signer
from pipeline.provenance.signing_key import signing_key
from pipeline.settings import Settings


class _Metadata(BaseModel):
    voice_id: str = Field(max_length=64)
    name: str
    description: str = ""
    created_at: UtcSeconds
    consent: KeptConsent | None = None


class _PromptHeader(BaseModel):
    model: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A validated bundle."""

    signer: Signer
    metadata: _Metadata
    recording: EncodedRecording
    transcription: str
    prompt: bytes | None
    consent: Given | None


async def import_voice(
    resources: Resources,
    owner: Owner,
    read: Callable[[], Awaitable[bytes]],
    name: str | None = None,
    *,
    check: Callable[[str], Awaitable[None]],
) -> VoiceMetadata:
    """Save the voice of a bundle.

    Parameters
    ----------
    resources, owner
        The clients, and the owner of the new voice.
    read
        Reads the bundle, a zip file.
    name
        The name of the voice. Default: that in the bundle.
    check
        Checks the recording of a session, if `QUALITY` is `require`.

    Raises
    ------
    InvalidInput, InvalidAudio, TooLarge
        The bundle is not valid, or was signed with a key that is not trusted, see `BUNDLE_TRUSTED_KEYS`.
    NameTaken, TooMany, ReferenceRejected, ConsentRequired
        See `voice_changes.save`.
    """
    async with resources.decoding:
        data = await read()
        bundle = await asyncio.to_thread(read_bundle, data, resources.settings)
    is_trusted = await _is_trusted(resources, bundle.signer)
    if not is_trusted:
        bundle = _unverified(bundle)
    session_id, consent = new_id(resources.new_id, owner), _kept_consent(resources, owner, bundle)
    await sessions.store(resources, owner, session_id, bundle.recording, bundle.transcription)
    if bundle.prompt is not None:
        await resources.bucket.put(layout.session(session_id).embedding, bundle.prompt, JSON)
    origin = ImportedVoice(
        voice_id=bundle.metadata.voice_id,
        created_at=bundle.metadata.created_at,
        signer=bundle.signer.key_id,
        is_trusted=is_trusted,
    )
    await check(session_id)
    voice = await voice_changes.save(
        resources,
        owner,
        session_id,
        name or bundle.metadata.name,
        bundle.metadata.description,
        imported=Import(origin, consent),
    )
    await record(resources, owner, "imported", voice.voice_id, hashes={"bundle": sha256(data).hexdigest()})
    return voice


def read_bundle(data: bytes, settings: Settings) -> Bundle:
    """Validate a bundle completely.

    Raises
    ------
    InvalidInput, InvalidAudio, TooLarge
        It is not valid.
    """
    files = archive.unpack(data, settings)
    signer = signature.verified(files)
    try:
        metadata = _Metadata.model_validate_json(files.get(archive.METADATA, b""))
        transcription = files.get(archive.TRANSCRIPTION, b"").decode()
    except (ValidationError, UnicodeDecodeError) as error:
        raise invalid(f"{archive.METADATA} or {archive.TRANSCRIPTION} is missing or not valid.") from error
    check_name(metadata.name)
    check_description(metadata.description)
    recording = _recording(files, archive.RECORDING, settings)
    return Bundle(
        signer,
        metadata,
        recording,
        sessions.check_transcription(transcription, settings),
        _prompt(files.get(archive.PROMPT)),
        _consent(files, metadata.consent, recording, settings),
    )


async def _is_trusted(resources: Resources, signer: Signer) -> bool:
    """Return whether a bundle was signed by this installation, or by one in the settings.

    Raises
    ------
    InvalidInput
        The settings contain keys, and this is not one of them.
    """
    if signer.public_key == (await signing_key(resources)).public_bytes:
        return True
    trusted = resources.settings.trusted_bundle_keys
    if trusted and signer.public_key not in trusted:
        raise invalid(f"The bundle was signed with the key {signer.key_id}, which is not trusted here.")
    return signer.public_key in trusted


def _kept_consent(resources: Resources, owner: Owner, bundle: Bundle) -> Given | None:
    """Return the consent to keep with the voice, with an id of this installation."""
    given = bundle.consent if resources.settings.consent != "off" else None
    policy.check(resources, KeptConsent(**given.fields) if given else None, field="bundle")
    if given is None or given.recording is None:
        return given
    return replace(given, fields={**given.fields, "consent_id": new_id(resources.new_id, owner)})


def _unverified(bundle: Bundle) -> Bundle:
    """Return a bundle without what depends on trust in its signer: the prompt, and the checks of the consent."""
    consent = bundle.consent
    if consent is not None:
        consent = replace(consent, fields={**consent.fields, "check": None, "review": None})
    return replace(bundle, prompt=None, consent=consent)


def _recording(files: dict[str, bytes], name: str, settings: Settings) -> EncodedRecording:
    """Return a recording. It must be in the form that the service stores, as an export is."""
    from pipeline.audio.reference_audio import transcode_reference

    wav = files.get(name)
    if wav is None:
        raise invalid(f"{name} is missing.")
    recording = transcode_reference(wav, settings)
    if recording.wav != wav:
        raise InvalidAudio(f"{name} should be the file of an export: mono 16-bit WAV without more.", field="bundle")
    return recording


def _prompt(body: bytes | None) -> bytes | None:
    """Return the prompt if it is JSON with a model. The worker validates it, and replaces one of another model."""
    if body is None:
        return None
    try:
        _PromptHeader.model_validate_json(body)
    except ValidationError as error:
        raise invalid(f"{archive.PROMPT} is not a voice prompt.") from error
    return body


def _consent(
    files: dict[str, bytes], consent: KeptConsent | None, reference: EncodedRecording, settings: Settings
) -> Given | None:
    if consent is None:
        if files.keys() & {archive.CONSENT_TEXT, archive.CONSENT_RECORDING}:
            raise invalid(f"The consent is missing in {archive.METADATA}.")
        return None
    check_consent(consent.text)
    recording = None
    if archive.CONSENT_RECORDING in files:
        recording = _recording(files, archive.CONSENT_RECORDING, settings).wav
    for digest, wav in ((consent.reference_sha256, reference.wav), (consent.recording_sha256, recording)):
        if digest is not None and digest != (sha256(wav).hexdigest() if wav is not None else ""):
            raise invalid("The consent is for another recording.")
    return Given(consent.model_dump(exclude={"consent_id", "recording_file", "token_sha256"}), recording)
