"""The saved voice that a client of OpenAI's API names: by its id, or by its name."""

from pipeline.clients.resources import Resources
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voices
from pipeline.domain.voice_names import voice_id_of
from pipeline.errors import NotFound
from pipeline.ids import Owner

_PAGE = 1000


async def find_voice(resources: Resources, owner: Owner, named: str) -> VoiceMetadata:
    """Return the voice with this id, or else with this name, in any case.

    Raises
    ------
    NotFound
        There is none.
    """
    for voice_id in dict.fromkeys((named, voice_id_of(named))):
        metadata, _ = await voices.read(resources, owner, voice_id)
        if metadata and metadata.status == "ready" and (voice_id == named or _is_named(metadata, named)):
            return metadata
    for metadata in await all_voices(resources, owner):  # a voice that was renamed keeps its id
        if _is_named(metadata, named):
            return metadata
    raise NotFound(
        f"There is no voice {named[:64]!r}; GET /v1/audio/voices lists those that are saved.", field="voice"
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


def _is_named(metadata: VoiceMetadata, name: str) -> bool:
    return metadata.name.casefold() == name.strip().casefold()
