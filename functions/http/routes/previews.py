"""`/preview` and `/preview-from-voice`: synthesis of a preview."""

from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile

from functions.http.parameters.options import FromOptions, NoOtherFields
from functions.http.previews.openapi_responses import GENERATED
from functions.http.previews.preview_route import PreviewRoute
from functions.http.previews.response import FromAnswering
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromResources
from functions.previews.requests import ReferenceAt, find_reference, preview_request
from pipeline.access.owners import new_id
from pipeline.access.webhook_receivers import check_webhook
from pipeline.contract import records
from pipeline.contract.records import Options
from pipeline.domain import jobs, sessions
from pipeline.errors import InvalidInput
from pipeline.logs import current_correlation_id

router = APIRouter(tags=["previews"], route_class=PreviewRoute)

ResponseText = Annotated[str, Form(description="What to say")]
WebhookUrl = Annotated[
    str | None, Form(description="Where to post how the job ended, signed; the owner's own receiver when not given")
]


@router.post(
    "/preview",
    response_class=Response,
    responses=GENERATED,
    dependencies=[NoOtherFields],
    openapi_extra=requires("preview"),
)
async def preview(
    caller: FromCaller,
    resources: FromResources,
    answering: FromAnswering,
    response_text: ResponseText,
    options: FromOptions,
    audio: Annotated[UploadFile | None, File(description="The recording: WAV, FLAC, OGG or MP3")] = None,
    transcription: Annotated[str, Form(description="What is said in it; may be blank")] = "",
    session_id: Annotated[str | None, Form(description="An earlier upload, in place of `audio`")] = None,
    webhook_url: WebhookUrl = None,
) -> Response:
    """Clone the voice of a recording and synthesize a text; returns the audio, or 202 if it takes longer."""
    text = jobs.check_text(response_text, resources.settings, field="response_text")
    if (audio is None) == (session_id is None):
        raise InvalidInput("Give either audio, a recording, or session_id, an earlier upload.", field="audio")
    await check_webhook(resources, caller.owner, webhook_url)
    if audio is None:
        source = records.Source(session_id=session_id, owner=caller.owner)
        return await _from_source(answering, source, text, options, webhook_url)
    said = sessions.check_transcription(transcription, resources.settings)
    recording = await sessions.check_reference(resources, audio.read)
    new_session = new_id(resources.new_id, caller.owner)
    request = preview_request(
        resources,
        records.Source(session_id=new_session, owner=caller.owner),
        ReferenceAt(new_session),
        text,
        options,
        correlation_id=current_correlation_id(),
        new_reference=records.NewReference(transcription=said),
        webhook_url=webhook_url,
    )
    return await answering.respond(
        request,
        sessions.objects(new_session, recording, said),
        reference_seconds=recording.duration_seconds,
    )


@router.post(
    "/preview-from-voice",
    response_class=Response,
    responses=GENERATED,
    dependencies=[NoOtherFields],
    openapi_extra=requires("preview"),
)
async def preview_from_voice(
    caller: FromCaller,
    resources: FromResources,
    answering: FromAnswering,
    voice_id: Annotated[str, Form(description="A saved voice")],
    response_text: ResponseText,
    options: FromOptions,
    webhook_url: WebhookUrl = None,
) -> Response:
    """Synthesize a text with a saved voice; returns the audio, or 202 if it takes longer."""
    text = jobs.check_text(response_text, resources.settings, field="response_text")
    await check_webhook(resources, caller.owner, webhook_url)
    source = records.Source(voice_id=voice_id, owner=caller.owner)
    return await _from_source(answering, source, text, options, webhook_url)


async def _from_source(
    answering: FromAnswering, source: records.Source, text: str, options: Options, webhook_url: str | None
) -> Response:
    reference = await find_reference(answering.resources, source)
    request = preview_request(
        answering.resources,
        source,
        reference,
        text,
        options,
        correlation_id=current_correlation_id(),
        webhook_url=webhook_url,
    )
    return await answering.respond(request)
