"""`/v1/audio/voice_consents`: recordings in which speakers agree to the cloning of their voices."""

from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from functions.http.openai.recordings import check_recording
from functions.http.routing.authorized_route import route_options
from functions.http.routing.dependencies import FromCaller, FromResources
from functions.http.routing.idempotent_route import IdempotentRoute
from pipeline.domain.consents import recorded
from pipeline.domain.consents.recorded import StoredConsent
from pipeline.errors import InvalidAudio, InvalidInput, NotFound, TooLarge, Unavailable

router = APIRouter(prefix="/v1", tags=["openai"], route_class=IdempotentRoute)


class ConsentView(BaseModel):
    """A recorded consent."""

    id: str
    object: Literal["audio.voice_consent"] = "audio.voice_consent"
    created_at: int = Field(description="Seconds since 1970")
    name: str
    language: str


class ConsentList(BaseModel):
    """One page of consents, oldest first."""

    object: Literal["list"] = "list"
    data: list[ConsentView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedConsent(BaseModel):
    """The confirmation that a consent was deleted."""

    id: str
    object: Literal["audio.voice_consent"] = "audio.voice_consent"
    deleted: bool = True


class ConsentName(BaseModel):
    """The new name of a consent."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str


@router.post(
    "/audio/voice_consents", **route_options("voices:write", InvalidInput, InvalidAudio, TooLarge, Unavailable)
)
async def create_consent(
    caller: FromCaller,
    resources: FromResources,
    name: Annotated[str, Form(description="A label")],
    language: Annotated[str, Form(description="BCP 47 tag of the spoken language, such as `en-US`")],
    recording: Annotated[UploadFile, File(description="Recording of the speaker's consent: WAV, FLAC, OGG or MP3")],
    text: Annotated[str, Form(description="Extension: the transcription of the recording")] = "",
) -> ConsentView:
    """Store a recorded consent for 12 hours.  Every voice that is created with it keeps a copy."""
    checked = await check_recording(resources, recording.read, field="recording")
    return _view(await recorded.create(resources, caller.owner, name, language, text, checked))


@router.get("/audio/voice_consents", **route_options("voices:write", InvalidInput, Unavailable))
async def list_consents(
    caller: FromCaller,
    resources: FromResources,
    limit: Annotated[int, Query(ge=1, le=100, description="Maximum number of results")] = 20,
    after: Annotated[str, Query(max_length=32, description="Return the consents after this id")] = "",
) -> ConsentList:
    """List the recorded consents that have not expired."""
    found, has_more = await recorded.page(resources, caller.owner, limit=limit, after=after)
    data = [_view(stored) for stored in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return ConsentList(data=data, first_id=first, last_id=last, has_more=has_more)


@router.get("/audio/voice_consents/{consent_id}", **route_options("voices:write", NotFound, Unavailable))
async def get_consent(consent_id: str, caller: FromCaller, resources: FromResources) -> ConsentView:
    """Return one consent."""
    return _view(await recorded.get(resources, caller.owner, consent_id))


@router.post(
    "/audio/voice_consents/{consent_id}", **route_options("voices:write", InvalidInput, NotFound, Unavailable)
)
async def rename_consent(
    consent_id: str, changed: ConsentName, caller: FromCaller, resources: FromResources
) -> ConsentView:
    """Change a consent's name."""
    return _view(await recorded.rename(resources, caller.owner, consent_id, changed.name))


@router.delete("/audio/voice_consents/{consent_id}", **route_options("voices:write", NotFound, Unavailable))
async def delete_consent(consent_id: str, caller: FromCaller, resources: FromResources) -> DeletedConsent:
    """Delete a consent.  Voices that were created with it keep their copies."""
    await recorded.delete(resources, caller.owner, consent_id)
    return DeletedConsent(id=consent_id)


def _view(stored: StoredConsent) -> ConsentView:
    record = stored.record
    created_at = int(record.created_at.timestamp())
    return ConsentView(id=stored.consent_id, created_at=created_at, name=record.name, language=record.language)
