"""What a saved voice is called, changed; the id by which it is used stays."""

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
        The name or the description can't serve.
    NotFound
        There is none of that id.
    """
    changes: dict[str, object] = {"changed_at": resources.clock()}
    if name is not None:
        changes["name"] = check_name(name)
    if description is not None:
        changes["description"] = check_description(description)
    while True:
        metadata, etag = await voices.read(resources, owner, voice_id)
        if metadata is None or metadata.status != "ready":
            raise voices.unknown(voice_id)
        renamed = metadata.model_copy(update=changes)
        key = layout.voice(owner, voice_id).metadata
        # A change that came in between is read, and this one made on top of it.
        if await resources.voices.replace(key, renamed.to_json(), JSON, etag=etag) is not None:
            return renamed
