"""`/voices`: saved voices."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from functions.http.parameters.prefer import prefers_representation
from functions.http.responses import problems
from functions.http.routes.revocations import CertificateView, certificate_view
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromResources, FromServices
from functions.http.routing.idempotent_route import IdempotentRoute, idempotency_of, mark_answer
from functions.previews.reference_checks import ensure_checked
from functions.previews.requests import WholeText
from pipeline.contract.records import ConsentStatus, ImportedVoice, UtcSeconds, VoiceMetadata
from pipeline.domain import voice_changes, voice_claims, voice_names, voice_renaming, voices
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import ConsentRequired, Expired, InvalidAudio, InvalidInput, NameTaken, NotFound, Unavailable

router = APIRouter(tags=["voices"], route_class=IdempotentRoute)

LIMIT_MAX = 1000

_STRING = {"schema": {"type": "string"}}
_CERTIFICATE = {"Location": {"description": "Path of the certificate", **_STRING}}


class SpeakerConsent(BaseModel):
    """The consent of a voice's speaker."""

    text: str
    given_at: UtcSeconds
    status: ConsentStatus = Field(
        description="`verified` by a check, `accepted` or `rejected` by a review, otherwise `unverified`"
    )
    consent_id: str | None = Field(None, description="The recorded consent, if there is one")
    person: str | None = None
    purposes: tuple[str, ...] = ()
    languages: tuple[str, ...] = Field((), description="Languages that the voice may speak, empty for all")
    expires_at: UtcSeconds | None = None
    reference_sha256: str | None = Field(None, description="SHA-256 of the voice's recording (`/sample`), in hex")
    recording_sha256: str | None = Field(None, description="SHA-256 of the consent's recording, in hex")


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
    imported: ImportedVoice | None = Field(None, description="Where it came from, if it was imported")


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
        description="The words of the speaker's consent, stored with the voice if none was recorded for the "
        f"session with `POST /consents`; at most {voice_names.CONSENT_MAX} characters",
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
    return SavedVoice.model_validate(metadata, from_attributes=True)


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
    responses={
        200: {
            "model": CertificateView,
            "description": "With `Prefer: return=representation`: the certificate",
            "headers": _CERTIFICATE | {"Preference-Applied": {"description": "RFC 7240", **_STRING}},
        },
        204: {"headers": _CERTIFICATE},
        **problems.answers(NotFound.code, Unavailable.code),
    },
    openapi_extra=requires("voices:write"),
)
async def delete_voice(
    voice_id: str,
    caller: FromCaller,
    resources: FromResources,
    request: Request,
    _prefer: Annotated[str, Header(alias="Prefer", description="`return=representation`")] = "",
) -> Response:
    """Delete a voice and everything made from it.

    Open jobs of the voice end within seconds. `Location` leads to a certificate of what was removed.
    """
    certificate = await revoke_voice(resources, caller.owner, voice_id, "deleted")
    headers = {"Location": f"/revocations/{certificate.revocation_id}"}
    if not prefers_representation(request.headers.getlist("prefer")):
        return Response(status_code=204, headers=headers)
    headers["Preference-Applied"] = "return=representation"
    return JSONResponse(certificate_view(certificate).model_dump(mode="json"), headers=headers)


@router.post(
    "/voices",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"description": "The voice", **_STRING}}},
        **problems.answers(
            InvalidInput.code,
            InvalidAudio.code,
            NotFound.code,
            Expired.code,
            NameTaken.code,
            ConsentRequired.code,
            Unavailable.code,
        ),
    },
    openapi_extra=requires("voices:write"),
)
async def save_voice(
    voice: NewVoice, caller: FromCaller, services: FromServices, request: Request, response: Response
) -> SavedVoice:
    """Save a session's voice under a name."""
    resources = services.resources
    await ensure_checked(resources, services.waiters, caller.owner, voice.session_id)
    claim = idempotency_of(request).claim
    saved = None
    if claim is not None and claim.is_taken_over:
        saved = await voice_claims.saved_before(resources, caller.owner, voice.session_id, voice.name)
    saved = saved or await voice_changes.save(
        resources, caller.owner, voice.session_id, voice.name, voice.description or "", voice.consent or ""
    )
    await mark_answer(request, voice.session_id)
    response.headers["Location"] = f"/voices/{saved.voice_id}"
    return view(saved)
