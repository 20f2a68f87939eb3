"""Lookup of saved voices by id, name or alias (`VOICE_ALIASES`)."""

from pipeline.clients.resources import Resources
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voices
from pipeline.domain.voice_names import distinct_voice_id_of, is_same_name, voice_id_of
from pipeline.errors import NotFound
from pipeline.ids import Owner
from pipeline.settings import FALLBACK_ALIAS

_PAGE = 1000


async def find_voice(resources: Resources, owner: Owner, id_or_name: str) -> VoiceMetadata:
    """Return the voice with this id, alias or name, or else the fallback voice.  Ignores the case.

    Raises
    ------
    NotFound
        There is no such voice.
    """
    aliases = resources.settings.aliases_of_voices
    names = [id_or_name]
    if (alias := id_or_name.strip().casefold()) in aliases:
        names.append(aliases[alias])
    for name in names:
        if voice := await _voice_by_id(resources, owner, name):
            return voice
    saved = await all_voices(resources, owner)
    for name in (*names, aliases.get(FALLBACK_ALIAS, id_or_name)):
        if voice := with_name(saved, name):
            return voice
    raise NotFound(
        f"There is no voice {id_or_name[:64]!r}. GET /v1/audio/voices lists the saved voices.", field="voice"
    )


def with_name(saved: list[VoiceMetadata], id_or_name: str) -> VoiceMetadata | None:
    """Return the voice with this id or name; a voice that was renamed has the id of an earlier name."""
    by_id = (voice for voice in saved if voice.voice_id == id_or_name)
    by_name = (voice for voice in saved if is_same_name(voice.name, id_or_name))
    return next(by_id, None) or next(by_name, None)


async def all_voices(resources: Resources, owner: Owner) -> list[VoiceMetadata]:
    """Return all voices of an owner, in the order of their ids."""
    found: list[VoiceMetadata] = []
    after: str | None = ""
    while after is not None:
        page = await voices.page(resources, owner, limit=_PAGE, after=after)
        found += page.voices
        after = page.next_after
    return found


async def _voice_by_id(resources: Resources, owner: Owner, id_or_name: str) -> VoiceMetadata | None:
    """Return the voice with this id, or with this name if its id was derived from it."""
    for voice_id in dict.fromkeys((id_or_name, voice_id_of(id_or_name), distinct_voice_id_of(id_or_name))):
        voice, _ = await voices.read(resources, owner, voice_id)
        if voice and voice.is_ready and (voice_id == id_or_name or is_same_name(voice.name, id_or_name)):
            return voice
    return None
