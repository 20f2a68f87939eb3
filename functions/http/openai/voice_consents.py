"""`/v1/audio/voice_consents`: recordings by which speakers agree to be cloned."""

from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from functions.http.openai.recordings import check_recording
from functions.http.responses import problems
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromResources
from functions.http.routing.idempotent_route import IdempotentRoute
from functions.previews.requests import WholeText
from pipeline.domain import voice_consents
from pipeline.domain.voice_consents import StoredConsent
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
    """One page of consents, from the oldest."""

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

    name: WholeText


@router.post(
    "/audio/voice_consents",
    responses=problems.answers(InvalidInput.code, InvalidAudio.code, TooLarge.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def create_consent(
    caller: FromCaller,
    resources: FromResources,
    name: Annotated[str, Form(description="A label")],
    language: Annotated[str, Form(description="BCP 47 tag of the language that is spoken, such as `en-US`")],
    recording: Annotated[UploadFile, File(description="The speaker's agreement: WAV, FLAC, OGG or MP3")],
    text: Annotated[str, Form(description="Not of OpenAI: the words that are spoken")] = "",
) -> ConsentView:
    """Store a recorded consent for 12 hours, in which voices can be made with it; each keeps a copy."""
    checked = await check_recording(resources, recording.read, field="recording")
    return _view(await voice_consents.create(resources, caller.owner, name, language, text, checked))


@router.get(
    "/audio/voice_consents",
    responses=problems.answers(InvalidInput.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def list_consents(
    caller: FromCaller,
    resources: FromResources,
    limit: Annotated[int, Query(ge=1, le=100, description="How many at most")] = 20,
    after: Annotated[str, Query(max_length=32, description="Only consents after this one")] = "",
) -> ConsentList:
    """List the recorded consents that have not expired."""
    found, has_more = await voice_consents.page(resources, caller.owner, limit=limit, after=after)
    data = [_view(stored) for stored in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return ConsentList(data=data, first_id=first, last_id=last, has_more=has_more)


@router.get(
    "/audio/voice_consents/{consent_id}",
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def get_consent(consent_id: str, caller: FromCaller, resources: FromResources) -> ConsentView:
    """Return one consent."""
    return _view(await voice_consents.get(resources, caller.owner, consent_id))


@router.post(
    "/audio/voice_consents/{consent_id}",
    responses=problems.answers(InvalidInput.code, NotFound.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def rename_consent(
    consent_id: str, changed: ConsentName, caller: FromCaller, resources: FromResources
) -> ConsentView:
    """Change a consent's name."""
    return _view(await voice_consents.rename(resources, caller.owner, consent_id, changed.name))


@router.delete(
    "/audio/voice_consents/{consent_id}",
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def delete_consent(consent_id: str, caller: FromCaller, resources: FromResources) -> DeletedConsent:
    """Delete a consent; voices that were made with it keep their copies."""
    await voice_consents.delete(resources, caller.owner, consent_id)
    return DeletedConsent(id=consent_id)


def _view(stored: StoredConsent) -> ConsentView:
    record = stored.record
    created_at = int(record.created_at.timestamp())
    return ConsentView(id=stored.consent_id, created_at=created_at, name=record.name, language=record.language)
