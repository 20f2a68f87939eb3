"""Claims of an id for a new voice, so that no two voices of an owner are saved under one name.

The id is the readable form of the name.  Different names can have the same readable form, such as C# and C++: the
second voice has a digest of its name in its id, and a number if a renamed voice has that id already.

A claim is the voice's `metadata.json` with the status `saving`, written if it does not exist.  Of two concurrent
claims of one id, one succeeds.  Two claims of one name can have different ids if a voice is deleted meanwhile.  So
the name is looked up before the claim and again after it: at least one of two concurrent claims finds the other.

A claim that was abandoned, and could not be deleted at once, keeps its name until the next claim of the name or the
sweep deletes it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from math import ceil

from pipeline.access.stored_voices import check_quota
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import VoiceChange, VoiceMetadata
from pipeline.domain import voices
from pipeline.domain.voice_names import distinct_voice_id_of, is_same_name, voice_id_of
from pipeline.errors import NameTaken, Unavailable
from pipeline.ids import Owner
from pipeline.telemetry.logs import current_key_id

_TRIES = 10

# The request that has abandoned a claim, and may still be deleting its files, has ended after this time.
ABANDONED_TIME = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Claim:
    """An id that this save may use, the ETag of its metadata, and the key of the record of the change."""

    voice: VoiceMetadata
    etag: str
    change_key: str


@dataclass(frozen=True, slots=True)
class _Stored:
    voice: VoiceMetadata | None  # None: the metadata can't be parsed
    etag: str


async def claim(resources: Resources, owner: Owner, session_id: str, name: str, description: str) -> Claim:
    """Claim an id for a session's voice. Resume the claim of an interrupted save of the same session.

    Raises
    ------
    NameTaken
        A voice of that name exists, or is being saved from another session.
    TooMany
        The owner has reached the limit of saved voices.
    Unavailable
        A failed save of that name is still being deleted, or the storage does not respond.
    """
    for _ in range(_TRIES):
        stored = await _voices_with_ids_of(resources, owner, name)
        if abandoned := _abandoned(stored, name):
            await _finish_abandoned(resources, owner, abandoned)
            continue
        unfinished = _unfinished(stored, name, session_id)
        if not unfinished:
            _check_name_is_free(stored, name)
        voice_id = unfinished or _free_id(stored, name)
        await check_quota(resources, owner, except_for=voice_id)
        change = VoiceChange(
            voice_id=voice_id, owner=owner, key_id=current_key_id(), action="saved", reference_id=session_id
        )
        change_key = await announce_change(resources, change)
        voice = _saving(resources, session_id, change, layout.id_in(change_key, layout.CHANGES), name, description)
        key, body = layout.voice(owner, voice_id).metadata, voice.to_json()
        if unfinished:
            etag = await resources.voices.replace(key, body, JSON, etag=stored[voice_id].etag)
        else:
            etag = await resources.voices.put_once(key, body, JSON)
        if etag is None:
            found, etag = await voices.read(resources, owner, voice_id)
            if found is None or found.change_id != voice.change_id:  # a concurrent claim: look again
                await resources.bucket.delete([change_key])
                continue
            # Otherwise, the response to this one was lost.
        claimed = Claim(voice, etag, change_key)
        try:
            stored = await _voices_with_ids_of(resources, owner, name)
            _check_name_is_free({id_: other for id_, other in stored.items() if id_ != voice_id}, name)
        except NameTaken:
            await abandon(resources, owner, claimed)
            raise
        return claimed
    raise _taken(name, voice_id_of(name))


async def saved_before(resources: Resources, owner: Owner, session_id: str, name: str) -> VoiceMetadata | None:
    """Return the voice that was saved from a session under a name, or None if there is none."""
    stored = await _voices_with_ids_of(resources, owner, name)
    found = (other.voice for other in stored.values() if other.voice)
    return next(
        (one for one in found if one.is_ready and one.reference_id == session_id and is_same_name(one.name, name)),
        None,
    )


async def abandon(resources: Resources, owner: Owner, claim: Claim) -> None:
    """Delete all objects of a claim, unless another save has resumed it."""
    if await mark_deleting(resources, owner, claim.voice, claim.etag):
        await clear(resources, owner, claim.voice.voice_id)
        await resources.bucket.delete([claim.change_key])


def _abandoned(stored: Mapping[str, _Stored], name: str) -> _Stored | None:
    """Return a voice of this name that is being deleted because its save has failed."""
    for other in stored.values():
        voice = other.voice
        if voice and voice.status == "deleting" and not voice.revocation_id and is_same_name(voice.name, name):
            return other
    return None


async def _finish_abandoned(resources: Resources, owner: Owner, abandoned: _Stored) -> None:
    """Delete all objects of an abandoned claim, unless another request has begun to."""
    voice = abandoned.voice
    assert voice is not None  # noqa: S101 - see `_abandoned`
    left = voice.changed_at + ABANDONED_TIME - resources.clock()
    if left > timedelta():
        seconds = ceil(left.total_seconds())
        raise Unavailable(
            f"A failed save of the name {voice.name!r} is being deleted. Try again in {seconds} seconds.",
            retry_after=seconds,
        )
    if await mark_deleting(resources, owner, voice, abandoned.etag):
        await clear(resources, owner, voice.voice_id)


async def announce_change(resources: Resources, change: VoiceChange) -> str:
    """Record a change of a voice before it begins, so that the sweeper can complete it. Return the record's key.

    The record of a revocation has its id, which is also in the metadata of the voice.
    """
    key = layout.change(change.revocation_id or resources.new_id())
    await resources.bucket.put(key, change.to_json(), JSON)
    return key


async def mark_deleting(
    resources: Resources, owner: Owner, voice: VoiceMetadata, etag: str, *, revocation_id: str | None = None
) -> bool:
    """Mark a voice as being deleted if its metadata has this ETag. Return whether it had."""
    marked = voice.model_copy(
        update={"status": "deleting", "changed_at": resources.clock(), "revocation_id": revocation_id}
    )
    key = layout.voice(owner, voice.voice_id).metadata
    return await resources.voices.replace(key, marked.to_json(), JSON, etag=etag) is not None


async def clear(resources: Resources, owner: Owner, voice_id: str) -> None:
    """Delete all objects of a voice that is marked as being deleted, with their versions."""
    keys = layout.voice(owner, voice_id)
    found = [version async for version in resources.voices.list_versions(keys.folder)]
    files = [version for version in found if layout.is_voice_file(version.key, owner, voice_id)]
    # The metadata is deleted last: while it exists, no other save can claim the id.
    last = [version for version in files if version.key == keys.metadata and version.is_latest]
    await resources.voices.delete_versions(version for version in files if version not in last)
    await resources.voices.delete_versions(last)


async def clear_unclaimed(resources: Resources, change: VoiceChange) -> bool:
    """Delete what a save has written after its claim was deleted. Return False if the id was claimed again."""
    keys = layout.voice_reference(change.owner, change.voice_id, change.reference_id or "")
    if not [version async for version in resources.voices.list_versions(keys.folder)]:
        return True
    # While this claim exists, no save can write files that would be deleted too.
    voice = _saving(resources, change.reference_id or "", change, "", change.voice_id, "")
    claimed = voice.model_copy(update={"status": "deleting", "change_id": None})
    key = layout.voice(change.owner, change.voice_id).metadata
    if await resources.voices.put_once(key, claimed.to_json(), JSON) is None:
        return False
    await clear(resources, change.owner, change.voice_id)
    return True


async def _voices_with_ids_of(resources: Resources, owner: Owner, name: str) -> Mapping[str, _Stored]:
    """Return the voices, in any status, with an id that a voice of this name could have."""
    distinct = distinct_voice_id_of(name)
    numbers = [number async for number in resources.voices.list_folders(layout.voices(owner) + distinct)]
    ids = sorted({voice_id_of(name), *(distinct + number for number in numbers)})
    found = await asyncio.gather(*(voices.read(resources, owner, id_) for id_ in ids))
    return {id_: _Stored(voice, etag) for id_, (voice, etag) in zip(ids, found, strict=True) if etag}


def _unfinished(stored: Mapping[str, _Stored], name: str, session_id: str) -> str | None:
    """Return the id that an interrupted save of the same session and name has claimed."""
    for id_, other in stored.items():
        voice = other.voice
        if (
            voice
            and (voice.status, voice.reference_id) == ("saving", session_id)
            and is_same_name(voice.name, name)
        ):
            return id_
    return None


def _check_name_is_free(stored: Mapping[str, _Stored], name: str) -> None:
    for id_, other in stored.items():
        if other.voice is None or is_same_name(other.voice.name, name):
            raise _taken(name, id_)


def _free_id(stored: Mapping[str, _Stored], name: str) -> str:
    distinct = distinct_voice_id_of(name)
    for id_ in (voice_id_of(name), distinct):
        if id_ not in stored:
            return id_
    return next(id_ for number in count(2) if (id_ := f"{distinct}-{number}") not in stored)


def _saving(
    resources: Resources, session_id: str, change: VoiceChange, change_id: str, name: str, description: str
) -> VoiceMetadata:
    keys = layout.voice_reference(change.owner, change.voice_id, session_id)
    now = resources.clock()
    return VoiceMetadata(
        voice_id=change.voice_id,
        name=name,
        description=description,
        created_at=now,
        source_file=keys.audio,
        embedding_file=keys.embedding,
        status="saving",
        changed_at=now,
        reference_id=session_id,
        change_id=change_id,
    )


def _taken(name: str, voice_id: str) -> NameTaken:
    return NameTaken(f"The name {name!r} is taken by the voice {voice_id}. Choose another name.", field="name")
