"""Changes of a saved voice's name and description. Its id does not change."""

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voices
from pipeline.domain.voice_names import check_description, check_name
from pipeline.ids import Owner


async def rename(
    resources: Resources, owner: Owner, voice_id: str, *, name: str | None = None, description: str | None = None
) -> VoiceMetadata:
    """Change a voice's name, its description, or both.

    Raises
    ------
    InvalidInput
        The name or the description is not valid.
    NotFound
        There is no voice with that id.
    """
    changes: dict[str, object] = {"changed_at": resources.clock()}
    if name is not None:
        changes["name"] = check_name(name)
    if description is not None:
        changes["description"] = check_description(description)
    while True:
        metadata, etag = await voices.get_with_etag(resources, owner, voice_id)
        renamed = metadata.model_copy(update=changes)
        key = layout.voice(owner, voice_id).metadata
        # After a concurrent change, read the voice again and apply this change to it.
        if await resources.voices.replace(key, renamed.to_json(), JSON, etag=etag) is not None:
            return renamed
