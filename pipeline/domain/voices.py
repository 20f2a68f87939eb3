"""Reading and listing of saved voices: only those that are ready."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain.voice_names import VOICE_ID_MAX, is_voice_id
from pipeline.errors import NotFound
from pipeline.ids import Owner

_READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Page:
    """One page of voices, in the order of their ids. `next_after` is the cursor for the next page."""

    voices: list[VoiceMetadata]
    next_after: str | None


async def get(resources: Resources, owner: Owner, voice_id: str) -> VoiceMetadata:
    """Return a voice that is ready.

    Raises
    ------
    NotFound
        There is no voice with that id.
    """
    metadata, _ = await get_with_etag(resources, owner, voice_id)
    return metadata


async def get_with_etag(resources: Resources, owner: Owner, voice_id: str) -> tuple[VoiceMetadata, str]:
    """Return a voice that is ready, and the ETag of its metadata.

    Raises
    ------
    NotFound
        There is no voice with that id.
    """
    metadata, etag = await read(resources, owner, voice_id)
    if metadata is None or not metadata.is_ready:
        raise unknown(voice_id)
    return metadata, etag


async def page(resources: Resources, owner: Owner, *, limit: int, after: str = "") -> Page:
    """List ready voices in the order of their ids, with as few reads as possible."""
    found: list[VoiceMetadata] = []
    while True:
        ids, are_all = await _ids_after(resources, owner, after, limit + 1 - len(found))
        found += await _ready(resources, owner, ids)
        if len(found) > limit:
            return Page(found[:limit], next_after=found[limit - 1].voice_id)
        if are_all:
            return Page(found, next_after=None)
        after = ids[-1]


async def _ready(resources: Resources, owner: Owner, ids: Sequence[str]) -> list[VoiceMetadata]:
    found: list[VoiceMetadata] = []
    for start in range(0, len(ids), _READS_AT_ONCE):
        some = await asyncio.gather(*(read(resources, owner, id_) for id_ in ids[start : start + _READS_AT_ONCE]))
        found += [metadata for metadata, _ in some if metadata is not None and metadata.is_ready]
    return found


async def read(resources: Resources, owner: Owner, voice_id: str) -> tuple[VoiceMetadata | None, str]:
    """Return a voice in any status, with its ETag, or None if it does not exist or can't be parsed."""
    if not is_voice_id(voice_id):
        return None, ""
    stored = await resources.voices.read(layout.voice(owner, voice_id).metadata)
    if stored is None:
        return None, ""
    return VoiceMetadata.parse_stored(stored.body, voice_id=voice_id), stored.etag


async def _ids_after(resources: Resources, owner: Owner, after: str, count: int) -> tuple[list[str], bool]:
    """Return at least `count` of the ids that follow, in order, and whether these are all. Some may not exist.

    S3 orders `nova-2/` before `nova/`, ids the other way round.  So of the ids that S3 has not listed yet, only
    prefixes of the last one can come before it: `nova` if the last one is `nova-2`.
    """
    folder, found = layout.voices(owner), list[str]()
    async for voice_id in resources.voices.list_folders(folder, start_after=folder + after if after else ""):
        if voice_id > after:
            found.append(voice_id)
        if len(found) == count:
            parts = voice_id.split("-")
            beginnings = {"-".join(parts[:end]) for end in range(1, len(parts))}
            return sorted({*found, *(id_ for id_ in beginnings if id_ > after)}), False
    return sorted(found), True


def unknown(voice_id: str) -> NotFound:
    """Return the error for a voice that does not exist."""
    return NotFound(f"There is no voice {voice_id[:VOICE_ID_MAX]!r}.", field="voice_id")
