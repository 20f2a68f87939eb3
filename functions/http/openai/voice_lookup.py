"""Lookup of saved voices by id or name."""

from pipeline.clients.resources import Resources
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voices
from pipeline.domain.voice_names import distinct_voice_id_of, is_same_name, voice_id_of
from pipeline.errors import NotFound
from pipeline.ids import Owner

_PAGE = 1000


async def find_voice(resources: Resources, owner: Owner, id_or_name: str) -> VoiceMetadata:
    """Return the voice with this id, or else with this name, compared without regard to case.

    Raises
    ------
    NotFound
        There is no such voice.
    """
    for voice_id in dict.fromkeys((id_or_name, voice_id_of(id_or_name), distinct_voice_id_of(id_or_name))):
        metadata, _ = await voices.read(resources, owner, voice_id)
        if metadata and metadata.is_ready and (voice_id == id_or_name or is_same_name(metadata.name, id_or_name)):
            return metadata
    for metadata in await all_voices(resources, owner):  # a renamed voice keeps its id
        if is_same_name(metadata.name, id_or_name):
            return metadata
    raise NotFound(
        f"There is no voice {id_or_name[:64]!r}. GET /v1/audio/voices lists the saved voices.", field="voice"
    )


async def all_voices(resources: Resources, owner: Owner) -> list[VoiceMetadata]:
    """Return all voices of an owner, in the order of their ids."""
    found: list[VoiceMetadata] = []
    after: str | None = ""
    while after is not None:
        page = await voices.page(resources, owner, limit=_PAGE, after=after)
        found += page.voices
        after = page.next_after
    return found
