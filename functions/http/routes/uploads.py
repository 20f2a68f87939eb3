"""`/uploads` and the older `/upload`: upload of a reference without synthesis."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from functions.http.responses import problems
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromResources
from functions.http.routing.idempotent_route import IdempotentRoute, mark_answer
from functions.previews.requests import WholeText
from pipeline.access.owners import new_id
from pipeline.audio.formats import standard_content_type
from pipeline.contract import retention
from pipeline.contract.records import UtcSeconds
from pipeline.domain import presigned_urls, sessions
from pipeline.errors import InvalidAudio, InvalidInput, TooLarge, Unavailable

router = APIRouter(tags=["uploads"], route_class=IdempotentRoute)

# RFC 9745: when the resource was deprecated, as a structured-field date.
DEPRECATED_SINCE = datetime(2026, 11, 1, tzinfo=UTC)
SUCCESSOR = '</preview>; rel="successor-version"'


class NewUpload(BaseModel):
    """The properties of a recording that the client will post to the storage."""

    model_config = ConfigDict(extra="forbid")

    transcription: WholeText = Field("", description="Transcription of the recording")
    content_type: Annotated[str, AfterValidator(standard_content_type)] = Field(
        "audio/wav",
        max_length=100,
        description="Content type of the recording, such as `audio/wav` or `audio/mpeg`. Other common names and "
        "parameters are accepted",
    )


class UploadTicket(BaseModel):
    """A presigned POST: send a multipart form with these fields, then the recording as `file`."""

    session_id: str
    url: str
    fields: dict[str, str]
    max_bytes: int
    expires_at: UtcSeconds = Field(description="When the session and this form expire")


class SessionView(BaseModel):
    """A stored reference."""

    session_id: str


@router.post(
    "/uploads",
    status_code=201,
    responses=problems.answers(InvalidInput.code, Unavailable.code),
    openapi_extra=requires("preview"),
)
async def create_upload(
    caller: FromCaller, resources: FromResources, request: Request, upload: NewUpload | None = None
) -> UploadTicket:
    """Create a session and a presigned POST that uploads its recording to the storage.

    The recording is validated at its first use.
    """
    new = upload or NewUpload()
    transcription = sessions.check_transcription(new.transcription, resources.settings)
    session_id, form = await sessions.open_upload(resources, caller.owner, transcription, new.content_type)
    await mark_answer(request, session_id)
    return UploadTicket(
        session_id=session_id,
        url=presigned_urls.absolute(form.url, str(request.base_url)),
        fields=form.fields,
        max_bytes=resources.settings.reference_max_bytes,
        expires_at=retention.upload_expires_at(session_id, resources.settings),
    )


@router.post(
    "/upload",
    deprecated=True,
    responses={
        200: {
            "headers": {
                "Deprecation": {"description": "RFC 9745", "schema": {"type": "string"}},
                "Link": {"description": "The successor route, `/preview`", "schema": {"type": "string"}},
            }
        },
        **problems.answers(InvalidInput.code, InvalidAudio.code, TooLarge.code, Unavailable.code),
    },
    openapi_extra=requires("preview"),
)
async def upload_recording(
    caller: FromCaller,
    resources: FromResources,
    request: Request,
    response: Response,
    audio: Annotated[UploadFile, File(description="The recording: WAV, FLAC, OGG or MP3")],
    transcription: Annotated[str, Form(description="Transcription of the recording")] = "",
) -> SessionView:
    """Store a reference. `POST /preview` stores one and synthesizes a text in a single request."""
    transcription = sessions.check_transcription(transcription, resources.settings)
    reference = await sessions.check_reference(resources, audio.read)
    session_id = new_id(resources.new_id, caller.owner)
    await mark_answer(request, session_id)
    await sessions.store(resources, caller.owner, session_id, reference, transcription)
    response.headers["Deprecation"] = f"@{int(DEPRECATED_SINCE.timestamp())}"
    response.headers["Link"] = SUCCESSOR
    return SessionView(session_id=session_id)
