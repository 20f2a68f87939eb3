"""`/voices`: saved voices."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from functions.http.responses import problems
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromResources
from functions.http.routing.idempotent_route import IdempotentRoute
from functions.previews.requests import WholeText
from pipeline.contract.records import UtcSeconds, VoiceMetadata
from pipeline.domain import voice_changes, voice_names, voice_renaming, voices
from pipeline.errors import Expired, InvalidAudio, InvalidInput, NameTaken, NotFound, Unavailable

router = APIRouter(tags=["voices"], route_class=IdempotentRoute)

LIMIT_MAX = 1000


class SpeakerConsent(BaseModel):
    """The consent of a voice's speaker."""

    text: str
    given_at: UtcSeconds


class SavedVoice(BaseModel):
    """A saved voice's metadata."""

    voice_id: str
    name: str
    description: str
    created_at: UtcSeconds
    source_file: str
    embedding_file: str
    transcription_file: str | None
    duration_seconds: float | None = Field(description="Duration of the reference")
    sample_rate: int | None = Field(description="Sample rate of the reference in Hz")
    model: str | None = Field(description="The model that computed the embedding, if it was saved with one")
    consent: SpeakerConsent | None = Field(description="The speaker's consent, if it was given")


class SavedVoiceList(BaseModel):
    """One page of voices, in the order of their ids."""

    voices: list[SavedVoice]
    next: str | None = Field(None, description="The value of `after` for the next page")


class NewVoice(BaseModel):
    """A session and the name of its voice."""

    model_config = ConfigDict(strict=True, extra="forbid")

    session_id: WholeText
    name: WholeText = Field(description=f"1 to {voice_names.NAME_MAX} characters with at least one letter or digit")
    description: WholeText | None = Field(None, description=f"At most {voice_names.DESCRIPTION_MAX} characters")
    consent: WholeText | None = Field(
        None,
        description="The words of the speaker's consent, stored with the voice; "
        f"at most {voice_names.CONSENT_MAX} characters",
    )


class VoiceChanges(BaseModel):
    """The new name and description of a voice. Missing fields do not change."""

    model_config = ConfigDict(strict=True)

    name: WholeText | None = Field(
        None, description=f"1 to {voice_names.NAME_MAX} characters with at least one letter or digit"
    )
    description: WholeText | None = Field(None, description=f"At most {voice_names.DESCRIPTION_MAX} characters")


def view(metadata: VoiceMetadata) -> SavedVoice:
    """Return the view of a voice."""
    return SavedVoice.model_validate(metadata.model_dump())


@router.get(
    "/voices",
    response_model_exclude_unset=True,
    responses=problems.answers(InvalidInput.code, Unavailable.code),
    openapi_extra=requires("preview"),
)
async def list_voices(
    caller: FromCaller,
    resources: FromResources,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Maximum number of voices")] = 100,
    after: Annotated[str, Query(max_length=voice_names.VOICE_ID_MAX, description="Return ids after this one")] = "",
) -> SavedVoiceList:
    """List the saved voices, sorted by `voice_id`."""
    page = await voices.page(resources, caller.owner, limit=limit, after=after)
    shown = SavedVoiceList(voices=[view(metadata) for metadata in page.voices])
    return shown.model_copy(update={"next": page.next_after}) if page.next_after else shown


@router.get(
    "/voices/{voice_id}",
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("preview"),
)
async def get_voice(voice_id: str, caller: FromCaller, resources: FromResources) -> SavedVoice:
    """Return one voice."""
    return view(await voices.get(resources, caller.owner, voice_id))


@router.patch(
    "/voices/{voice_id}",
    responses=problems.answers(InvalidInput.code, NotFound.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def rename_voice(
    voice_id: str, changes: VoiceChanges, caller: FromCaller, resources: FromResources
) -> SavedVoice:
    """Change a voice's name or description; its id does not change."""
    if changes.name is None and changes.description is None:
        raise InvalidInput("Send a new name or a new description.", field="name")
    renamed = await voice_renaming.rename(
        resources, caller.owner, voice_id, name=changes.name, description=changes.description
    )
    return view(renamed)


@router.delete(
    "/voices/{voice_id}",
    status_code=204,
    response_class=Response,
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def delete_voice(voice_id: str, caller: FromCaller, resources: FromResources) -> None:
    """Delete a voice and everything stored for it.

    On AWS, the bucket keeps deleted versions for 30 days, unless the deployment configures another period. An
    operator can restore the voice during that time.
    """
    await voice_changes.delete(resources, caller.owner, voice_id)


@router.post(
    "/voices",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"description": "The voice", "schema": {"type": "string"}}}},
        **problems.answers(
            InvalidInput.code, InvalidAudio.code, NotFound.code, Expired.code, NameTaken.code, Unavailable.code
        ),
    },
    openapi_extra=requires("voices:write"),
)
async def save_voice(
    voice: NewVoice, caller: FromCaller, resources: FromResources, response: Response
) -> SavedVoice:
    """Save a session's voice under a name."""
    saved = await voice_changes.save(
        resources, caller.owner, voice.session_id, voice.name, voice.description or "", voice.consent or ""
    )
    response.headers["Location"] = f"/voices/{saved.voice_id}"
    return view(saved)
