"""Revocation of a voice: stop its synthesis, remove everything made from it, and certify what was removed.

A revocation begins with a change record (`changes/<id>.json`), which the sweep completes after a failure. The sweep
also removes what requests and workers have stored while the revocation began, and then completes the certificate.
Every step can be repeated.
"""

from collections.abc import Callable
from datetime import timedelta

from pipeline.access.audit.entries import record
from pipeline.access.owners import new_id, owns
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import RecordedConsent, RevocationReason, VoiceChange, VoiceMetadata
from pipeline.contract.revocations import Certificate, RemainingData
from pipeline.domain import voices
from pipeline.domain.revocation import derived_objects
from pipeline.domain.voice_changes import record_pending_save
from pipeline.domain.voice_claims import announce_change, mark_deleting
from pipeline.errors import NotFound
from pipeline.ids import Owner, is_id, timestamp_of
from pipeline.telemetry.logs import current_key_id

# Requests of the API that found the voice before its revocation have ended after this time.
SETTLE_TIME = timedelta(seconds=40)

_ALWAYS_REMAINING = (
    RemainingData(kind="backup", reason="Backups and replicas of the storage are not changed. Delete them too."),
    RemainingData(
        kind="queue_message",
        reason="Messages of queued jobs contain their text until a worker receives and discards them.",
    ),
    RemainingData(
        kind="evidence",
        reason="This certificate, audit entries and receipts of consents are kept. They contain no audio.",
    ),
)


async def revoke_voice(resources: Resources, owner: Owner, voice_id: str, reason: RevocationReason) -> Certificate:
    """Delete a voice and everything made from it: files, the session it came from, jobs and previews.

    Open jobs end with the code `voice_deleted`. The voice can't be used or found anymore when this returns. The
    sweep completes the certificate within two minutes. A repeated call continues a revocation that was interrupted.

    Raises
    ------
    NotFound
        There is no voice with that id.
    """
    change = await _begun(resources, owner, voice_id) or await _begin(resources, owner, voice_id, reason)
    certificate = await _remove(resources, await _opened(resources, change), is_last=False)
    await _record(resources, change)
    return certificate


async def _begun(resources: Resources, owner: Owner, voice_id: str) -> VoiceChange | None:
    """Return the change that has marked a voice as being deleted. None if there is none."""
    voice, _ = await voices.read(resources, owner, voice_id)
    if voice is None or voice.revocation_id is None:
        return None
    key = layout.change(voice.revocation_id)
    return VoiceChange.parse_stored(await resources.bucket.get(key), key=key)


async def _begin(resources: Resources, owner: Owner, voice_id: str, reason: RevocationReason) -> VoiceChange:
    """Mark a voice as being deleted. Return the change that has marked it, which may be that of another request."""
    voice = await voices.get(resources, owner, voice_id)
    await record_pending_save(resources, voice, owner)
    change = VoiceChange(
        voice_id=voice_id,
        owner=owner,
        key_id=current_key_id(),
        action="deleted",
        revocation_id=new_id(resources.new_id, owner),
        reference_id=voice.reference_id,
        consent_ids=await _consent_ids(resources, voice),
        reason=reason,
    )
    change_key = await announce_change(resources, change)
    if await _is_marked(resources, change):
        return change
    await resources.bucket.delete([change_key])
    if other := await _begun(resources, owner, voice_id):
        return other
    raise voices.unknown(voice_id)


async def _record(resources: Resources, change: VoiceChange) -> None:
    """Record the revocation in the audit log, once even if repeated."""
    await record(
        resources,
        change.owner,
        "deleted" if change.reason == "deleted" else "revoked",
        change.voice_id,
        key_id=change.key_id,
        entry_id=change.revocation_id,
    )


async def _consent_ids(resources: Resources, voice: VoiceMetadata) -> tuple[str, ...]:
    """Return the ids of the recorded consents that were given for the voice's reference only."""
    of_session = await resources.bucket.get(layout.session(voice.reference_id).consent_id)
    of_voice = voice.consent.consent_id if voice.consent else None
    found = list[str]()
    for consent_id in {of_voice, of_session.decode() if of_session else None} - {None}:
        body = await resources.bucket.get(layout.session(consent_id or "").recorded_consent)
        record = RecordedConsent.parse_stored(body)
        is_kept = consent_id == of_voice and voice.consent is not None and voice.consent.token_sha256 is not None
        if is_kept or (record and record.reference):
            found.append(consent_id or "")
    return tuple(found)


async def get(resources: Resources, owner: Owner, revocation_id: str) -> Certificate:
    """Return a certificate.

    Raises
    ------
    NotFound
        There is none with that id.
    """
    if not is_id(revocation_id) or not owns(owner, revocation_id):
        raise _unknown(revocation_id)
    body = await resources.voices.get(layout.revocation(revocation_id))
    certificate = Certificate.parse_stored(body, revocation_id=revocation_id)
    if certificate is None:
        raise _unknown(revocation_id)
    return certificate


async def finish_revocations(resources: Resources) -> int:
    """Continue all revocations that are not complete. Return how many were completed."""
    changes = [item.key async for item in resources.bucket.list(layout.CHANGES)]
    completed = 0
    for key in changes:
        change = VoiceChange.parse_stored(await resources.bucket.get(key), key=key)
        if change and change.revocation_id and await _finish(resources, change):
            await resources.bucket.delete([key])
            completed += 1
    return completed


async def _finish(resources: Resources, change: VoiceChange) -> bool:
    body = await resources.voices.get(layout.revocation(change.revocation_id or ""))
    certificate = Certificate.parse_stored(body)
    if certificate is None:
        if not await _is_marked(resources, change):
            return True  # another revocation came first
        certificate = await _opened(resources, change)
    is_last = certificate.requested_at + SETTLE_TIME <= resources.clock()
    await _remove(resources, certificate, is_last=is_last)
    if is_last:
        await _record(resources, change)
    return is_last


async def _is_marked(resources: Resources, change: VoiceChange) -> bool:
    """Mark the voice as being deleted. Return False if it does not exist anymore, or another revocation has."""
    while True:
        voice, etag = await voices.read(resources, change.owner, change.voice_id)
        if voice is None or voice.reference_id != change.reference_id:
            return False
        if not voice.is_ready:
            return voice.revocation_id == change.revocation_id
        await mark_deleting(resources, change.owner, voice, etag, revocation_id=change.revocation_id)


async def _opened(resources: Resources, change: VoiceChange) -> Certificate:
    """Return the certificate of a revocation, which informs workers. Create it if it does not exist."""
    revocation_id, reference_id = change.revocation_id or "", change.reference_id or ""
    session, voice = layout.session(reference_id), layout.voice(change.owner, change.voice_id)
    reference = layout.voice_reference(change.owner, change.voice_id, reference_id)
    opened = Certificate(
        revocation_id=revocation_id,
        voice_id=change.voice_id,
        owner=change.owner,
        reference_id=reference_id,
        consent_ids=change.consent_ids,
        reason=change.reason,
        requested_at=timestamp_of(revocation_id),
        folders=(session.folder, reference.folder, voice.folder),
    )
    await resources.voices.put_once(layout.revocation(revocation_id), opened.to_json(), JSON)
    return opened


async def _remove(resources: Resources, certificate: Certificate, *, is_last: bool) -> Certificate:
    """Remove what is stored now. The certificate lists the objects before they are deleted."""
    found = await derived_objects.find(resources, certificate, is_last=is_last)
    remaining = [*found.remaining, *await _other_voices(resources, certificate), *_ALWAYS_REMAINING]

    def planned(stored: Certificate) -> Certificate:
        objects = {one.key: one for one in [*stored.removed, *found.as_removed()]}
        left = {(one.kind, one.key): one for one in [*stored.remaining, *remaining]}
        return stored.model_copy(update={"removed": tuple(objects.values()), "remaining": tuple(left.values())})

    def removed(stored: Certificate) -> Certificate:
        now = resources.clock()
        confirmed = tuple(
            one if one.removed_at else one.model_copy(update={"removed_at": now}) for one in stored.removed
        )
        return stored.model_copy(update={"removed": confirmed} | ({"completed_at": now} if is_last else {}))

    await _update(resources, certificate.revocation_id, planned)
    await found.delete(resources)
    return await _update(resources, certificate.revocation_id, removed)


async def _update(
    resources: Resources, revocation_id: str, change: Callable[[Certificate], Certificate]
) -> Certificate:
    """Change a certificate. After a concurrent change, it is read again."""
    key = layout.revocation(revocation_id)
    while True:
        stored = await resources.voices.read(key)
        if stored is None:
            raise _unknown(revocation_id)
        changed = change(Certificate.model_validate_json(stored.body))
        if await resources.voices.replace(key, changed.to_json(), JSON, etag=stored.etag):
            return changed


async def _other_voices(resources: Resources, certificate: Certificate) -> list[RemainingData]:
    """Return the other voices of the owner that were saved from the same recording."""
    folder, reference_id = layout.voices(certificate.owner), certificate.reference_id
    found = dict[str, RemainingData]()
    async for item in resources.voices.list(folder):
        voice_id, _, rest = item.key.removeprefix(folder).partition("/")
        if rest.startswith(f"{reference_id}/") and voice_id != certificate.voice_id:
            reason = f"The voice {voice_id} was saved from the same recording. Delete it too."
            found[voice_id] = RemainingData(kind="voice", key=layout.voice(None, voice_id).folder, reason=reason)
    return list(found.values())


def _unknown(revocation_id: str) -> NotFound:
    return NotFound(f"There is no revocation {revocation_id[:64]!r}.", field="revocation_id")
