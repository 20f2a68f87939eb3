"""Saving voices, in steps that can be resumed or undone after a failure."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.access.audit.entries import record, sha256
from pipeline.access.owners import new_id
from pipeline.audio.wav import WAV, length_of_wav
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout
from pipeline.contract.records import ImportedVoice, Request, Source, VoiceChange, VoiceMetadata
from pipeline.domain import acceptance, reference_checks, sessions, voice_claims, voices
from pipeline.domain.consents import kept
from pipeline.domain.voice_claims import clear, clear_unclaimed, mark_deleting
from pipeline.domain.voice_names import check_consent, check_description, check_name
from pipeline.errors import NameTaken, StorageFull, Unavailable
from pipeline.ids import Owner, is_id, timestamp_of

log = structlog.get_logger(__name__)

# A function runs for at most half a minute. A process that has held a claim for longer has failed.
CHANGE_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class _Files:
    audio: bytes
    transcription: bytes | None
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class Import:
    """The origin of an imported voice, and the consent in its bundle."""

    origin: ImportedVoice
    consent: kept.Given | None


class _PromptHeader(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str | None = None


async def save(
    resources: Resources,
    owner: Owner,
    session_id: str,
    name: str,
    description: str = "",
    consent: str = "",
    consent_id: str | None = None,
    imported: Import | None = None,
) -> VoiceMetadata:
    """Save a session's voice permanently under a name, with its speaker's consent, see `kept.given_for`.

    An imported voice keeps the consent of its bundle instead.

    A save that was interrupted is resumed by the next attempt of the same session. Saves of other
    sessions are refused until the sweeper has removed it, so that files of two voices are never mixed.

    Raises
    ------
    InvalidInput, NotFound, Expired, InvalidAudio
        The name is not valid, or the session can't be used.
    NameTaken
        A voice of that name exists, or is being saved from another session.
    TooMany
        The owner has reached the limit of saved voices.
    ReferenceRejected
        The checks of the recording have found faults, and `QUALITY` is `require`.
    ConsentRequired
        The consent is missing or not valid, and `CONSENT` is `require`.
    """
    name, description, consent = check_name(name), check_description(description), check_consent(consent)
    await sessions.require(resources, owner, session_id)
    await reference_checks.require_passed(resources, session_id)
    files = await _read_session(resources, session_id)
    if imported:
        given = imported.consent
    else:
        given = await kept.given_for(resources, owner, session_id, files.audio, consent, consent_id)
    claim = await voice_claims.claim(resources, owner, session_id, name, description)
    if await resources.bucket.head(layout.session(session_id).audio) is None:  # revoked since it was read
        await voice_claims.abandon(resources, owner, claim)
        raise sessions.expired(session_id, resources.settings)
    ready = _described(claim.voice, files, given).model_copy(
        update={"imported": imported.origin if imported else None}
    )
    key = layout.voice(owner, ready.voice_id).metadata
    try:
        await _write_files(resources, owner, ready, files, given)
        stored = await resources.voices.replace(key, ready.to_json(), JSON, etag=claim.etag)
    except StorageFull:
        with suppress(Unavailable):  # then the sweeper deletes it
            await voice_claims.abandon(resources, owner, claim)
        raise
    if stored is None and not await _is_stored(resources, owner, ready):
        raise NameTaken(f"The name {name!r} was taken by another request. Choose another name.", field="name")
    try:
        if files.embedding is None:
            await _request_embedding(resources, owner, ready)
        change_id = layout.id_in(claim.change_key, layout.CHANGES)
        hashes = {"recording": sha256(files.audio)}
        await record(resources, owner, "saved", ready.voice_id, entry_id=change_id, hashes=hashes)
        await resources.bucket.delete([claim.change_key])
    except Unavailable as error:  # the voice is saved, and the sweeper completes the rest
        log.warning("left to the sweeper", voice_id=ready.voice_id, reason=error.message)
    return ready


async def finish_changes(resources: Resources) -> int:
    """Complete interrupted saves. Return the number of changes that were completed or undone."""
    settled = []
    async for item in resources.bucket.list(layout.CHANGES):
        change_id = layout.id_in(item.key, layout.CHANGES)
        if not is_id(change_id):
            continue
        if timestamp_of(change_id) + CHANGE_TIMEOUT > resources.clock():
            break
        if await _settle_record(resources, item.key):
            settled.append(item.key)
    await resources.bucket.delete(settled)
    return len(settled)


async def _settle_record(resources: Resources, key: str) -> bool:
    body = await resources.bucket.get(key)
    if body is None:
        return True
    change = VoiceChange.parse_stored(body, key=key)
    if change is None or change.revocation_id:  # a later version may be able to parse it
        return False
    if not await _settle(resources, change):
        return False
    if change.action == "saved":
        await _record_if_saved(resources, layout.id_in(key, layout.CHANGES), change)
    return True


async def record_pending_save(resources: Resources, voice: VoiceMetadata, owner: Owner) -> None:
    """Record the save of a voice in the audit log if a fault has delayed its entry, before the voice is deleted.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    if voice.change_id is None:  # an older version has saved it
        return
    key = layout.change(voice.change_id)
    change = VoiceChange.parse_stored(await resources.bucket.get(key), key=key)
    if change and (change.action, change.owner, change.voice_id) == ("saved", owner, voice.voice_id):
        await _record_if_saved(resources, voice.change_id, change)


async def _record_if_saved(resources: Resources, change_id: str, change: VoiceChange) -> None:
    """Record an interrupted save in the audit log, unless it was undone, or completed by a later change."""
    voice, _ = await voices.read(resources, change.owner, change.voice_id)
    if voice is None or not voice.is_ready or voice.change_id != change_id:
        return
    recording = await resources.voices.get(layout.voice_files(voice).audio)
    await record(
        resources,
        change.owner,
        "saved",
        change.voice_id,
        key_id=change.key_id,
        entry_id=change_id,
        hashes={"recording": sha256(recording)} if recording else None,
    )


async def _is_stored(resources: Resources, owner: Owner, voice: VoiceMetadata) -> bool:
    """Return whether a refused write had succeeded before: the response to its first attempt may have been lost."""
    found, _ = await voices.read(resources, owner, voice.voice_id)
    return found is not None and found.to_json() == voice.to_json()


async def _settle(resources: Resources, change: VoiceChange) -> bool:
    owner, voice_id = change.owner, change.voice_id
    metadata, etag = await voices.read(resources, owner, voice_id)
    if metadata is None:  # with an ETag, it can't be parsed
        return bool(etag) or await clear_unclaimed(resources, change)
    if metadata.is_ready:
        if await resources.voices.head(layout.voice_files(metadata).embedding) is None:
            await _request_embedding(resources, owner, metadata)
        return True
    if metadata.changed_at + CHANGE_TIMEOUT > resources.clock():
        return False
    if not await mark_deleting(resources, owner, metadata, etag, revocation_id=metadata.revocation_id):
        return False  # another request has changed it
    await clear(resources, owner, voice_id)
    return True


async def _read_session(resources: Resources, session_id: str) -> _Files:
    keys = layout.session(session_id)
    audio, transcription, embedding = await asyncio.gather(
        resources.bucket.get(keys.audio),
        resources.bucket.get(keys.transcription),
        resources.bucket.get(keys.embedding),
    )
    if audio is None:
        raise sessions.expired(session_id, resources.settings)
    return _Files(audio, transcription, embedding)


async def _write_files(
    resources: Resources, owner: Owner, voice: VoiceMetadata, files: _Files, given: kept.Given | None
) -> None:
    keys = layout.voice_files(voice)
    contents = [
        (keys.audio, files.audio, WAV),
        (keys.transcription, files.transcription, sessions.TEXT),
        (keys.embedding, files.embedding, JSON),
    ]
    new = [NewObject(key, body, kind) for key, body, kind in contents if body is not None]
    new += given.objects(owner, voice) if given else []
    puts = (resources.voices.put(one.key, one.body, one.content_type) for one in new)
    # Wait for every write, so that none is still running when a failure is handled.
    for result in await asyncio.gather(*puts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _described(claim: VoiceMetadata, files: _Files, given: kept.Given | None) -> VoiceMetadata:
    sample_rate, seconds = length_of_wav(files.audio)
    keys = layout.voice_files(claim)
    return claim.model_copy(
        update={
            "status": "ready",
            "transcription_file": keys.transcription if files.transcription else None,
            "duration_seconds": round(seconds, 3),
            "sample_rate": sample_rate,
            "model": _model_of(files.embedding),
            "consent": given.kept_by(claim) if given else None,
        }
    )


def _model_of(embedding: bytes | None) -> str | None:
    if embedding is None:
        return None
    try:
        return _PromptHeader.model_validate_json(embedding).model
    except ValidationError:
        return None


async def _request_embedding(resources: Resources, owner: Owner, voice: VoiceMetadata) -> None:
    request = Request(
        job_id=new_id(resources.new_id, owner),
        kind="embedding",
        source=Source(voice_id=voice.voice_id, owner=owner),
        reference_id=voice.reference_id,
        reference_folder=layout.voice_files(voice).folder,
        created_at=resources.clock(),
    )
    await acceptance.accept(resources, request)
