"""`/preview` and `/preview-from-voice`: synthesis of a preview."""

from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile

from functions.http.parameters.options import FromOptions, NoOtherFields
from functions.http.previews.openapi_responses import GENERATED
from functions.http.previews.response import FromPreviewResponder
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromResources
from functions.http.routing.idempotent_route import JobRoute
from functions.previews.requests import ReferenceAt, find_reference, preview_request
from pipeline.access.owners import new_id
from pipeline.access.webhook_receivers import check_webhook
from pipeline.contract.records import NewReference, Source
from pipeline.domain import acceptance, sessions
from pipeline.errors import InvalidInput

router = APIRouter(tags=["previews"], route_class=JobRoute)

ResponseText = Annotated[str, Form(description="The text to synthesize")]
WebhookUrl = Annotated[
    str | None,
    Form(description="URL that receives the signed result; the default is the owner's webhook receiver"),
]


@router.post(
    "/preview",
    response_class=Response,
    responses=GENERATED,
    dependencies=[NoOtherFields],
    openapi_extra=requires("preview"),
)
async def create_preview(
    caller: FromCaller,
    resources: FromResources,
    responder: FromPreviewResponder,
    response_text: ResponseText,
    options: FromOptions,
    audio: Annotated[UploadFile | None, File(description="The recording: WAV, FLAC, OGG or MP3")] = None,
    transcription: Annotated[str, Form(description="Transcription of the recording; may be blank")] = "",
    session_id: Annotated[str | None, Form(description="An earlier upload, instead of `audio`")] = None,
    webhook_url: WebhookUrl = None,
) -> Response:
    """Clone the voice of a recording and synthesize a text. Returns the audio, or 202 if it takes longer."""
    if job_id := responder.idempotency.existing_job_id:
        return await responder.join_existing_job(caller.owner, job_id)
    text = acceptance.check_text(response_text, resources.settings, field="response_text")
    if (audio is None) == (session_id is None):
        raise InvalidInput("Send either audio, a recording, or session_id, an earlier upload.", field="audio")
    await check_webhook(resources, caller.owner, webhook_url)
    if audio is None:
        source = Source(session_id=session_id, owner=caller.owner)
        reference = await find_reference(resources, source)
        request = preview_request(resources, source, reference, text, options, webhook_url=webhook_url)
        return await responder.create_job(request)
    transcription = sessions.check_transcription(transcription, resources.settings)
    recording = await sessions.check_reference(resources, audio.read)
    new_session = new_id(resources.new_id, caller.owner)
    request = preview_request(
        resources,
        Source(session_id=new_session, owner=caller.owner),
        ReferenceAt(new_session),
        text,
        options,
        new_reference=NewReference(transcription=transcription),
        webhook_url=webhook_url,
    )
    objects = sessions.objects(new_session, recording, transcription)
    return await responder.create_job(request, objects, reference_seconds=recording.duration_seconds)


@router.post(
    "/preview-from-voice",
    response_class=Response,
    responses=GENERATED,
    dependencies=[NoOtherFields],
    openapi_extra=requires("preview"),
)
async def create_preview_from_voice(
    caller: FromCaller,
    resources: FromResources,
    responder: FromPreviewResponder,
    voice_id: Annotated[str, Form(description="A saved voice")],
    response_text: ResponseText,
    options: FromOptions,
    webhook_url: WebhookUrl = None,
) -> Response:
    """Synthesize a text with a saved voice. Returns the audio, or 202 if it takes longer."""
    if job_id := responder.idempotency.existing_job_id:
        return await responder.join_existing_job(caller.owner, job_id)
    text = acceptance.check_text(response_text, resources.settings, field="response_text")
    await check_webhook(resources, caller.owner, webhook_url)
    source = Source(voice_id=voice_id, owner=caller.owner)
    reference = await find_reference(resources, source)
    request = preview_request(resources, source, reference, text, options, webhook_url=webhook_url)
    return await responder.create_job(request)
