"""`/voices/{voice_id}/sample` and `/export`, and `/voices/import`: the recording, export and import of a voice."""

from datetime import timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from functions.http.parameters.ranges import FromFileRequest
from functions.http.previews.openapi_responses import UNSATISFIABLE_RANGE, range_response
from functions.http.responses import problems
from functions.http.responses.files import read_file
from functions.http.routes.voices import SavedVoice, view
from functions.http.routing.authorized_route import requires, route_options
from functions.http.routing.dependencies import FromCaller, FromResources, FromServices
from functions.http.routing.idempotent_route import IdempotentRoute, mark_answer
from functions.previews.reference_checks import ensure_checked
from pipeline.access.audit.entries import record, sha256
from pipeline.audio.wav import WAV
from pipeline.contract import layout
from pipeline.domain import voices
from pipeline.errors import (
    ConsentRequired,
    InvalidAudio,
    InvalidInput,
    NameTaken,
    NotFound,
    TooLarge,
    Unavailable,
)
from pipeline.provenance.bundles import importing
from pipeline.provenance.bundles.export import ZIP, make_bundle

router = APIRouter(tags=["voices"], route_class=IdempotentRoute)

LINK_LIFETIME = timedelta(minutes=5)

_STRING = {"schema": {"type": "string"}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_HEADERS = {
    "Cache-Control": {"description": "`private`", **_STRING},
    "Content-Disposition": {"description": "The file name", **_STRING},
}
_FILE_HEADERS = _HEADERS | {
    "Accept-Ranges": {"description": "`bytes`", **_STRING},
    "ETag": {"description": "Version of the file", **_STRING},
}

_IMPORT_ERRORS = route_options(
    "voices:write", InvalidInput, InvalidAudio, TooLarge, NameTaken, ConsentRequired, Unavailable
)
_IMPORTED = {201: {"headers": {"Location": {"description": "The voice", **_STRING}}}, **_IMPORT_ERRORS["responses"]}


@router.get(
    "/voices/{voice_id}/sample",
    response_class=Response,
    responses={
        200: {"description": "The recording", "content": {WAV: _BINARY}, "headers": _FILE_HEADERS},
        206: range_response({WAV: _BINARY}, _FILE_HEADERS),
        304: {"description": "The client has this version", "headers": _FILE_HEADERS},
        416: UNSATISFIABLE_RANGE,
        303: {
            "description": "The recording is too large for a response: download it from `Location`",
            "headers": {"Location": {"description": "Signed URL of the recording", **_STRING}},
        },
        **problems.answers(InvalidInput.code, NotFound.code, Unavailable.code),
    },
    openapi_extra=requires("preview"),
)
async def get_voice_sample(
    voice_id: str, caller: FromCaller, resources: FromResources, file_request: FromFileRequest
) -> Response:
    """Return the recording that a voice was cloned from."""
    voice = await voices.get(resources, caller.owner, voice_id)
    key = layout.voice_files(voice).audio
    part = await read_file(resources.voices, key, file_request, max_bytes=resources.settings.answer_max_bytes)
    if part is None:
        raise voices.unknown(voice_id)
    headers = _headers(f'inline; filename="{voice.voice_id}.wav"')
    if file_request.client_has(part.stored.etag):
        return Response(status_code=304, headers=headers | {"ETag": part.stored.etag})
    if part.is_complete:
        return part.response(headers, WAV)
    url = await resources.voices.presign_get(
        key, lifetime=LINK_LIFETIME, content_type=WAV, disposition=headers["Content-Disposition"]
    )
    return Response(status_code=303, headers={"Location": url})


@router.get(
    "/voices/{voice_id}/export",
    response_class=Response,
    responses={
        200: {
            "description": "A zip with `metadata.json`, `recording.wav`, `manifest.json` and `signature.json`, and "
            "with `transcription.txt`, `prompt.json`, `consent.txt` and `consent.wav` if they exist",
            "content": {ZIP: _BINARY},
            "headers": _HEADERS,
        },
        **problems.answers(NotFound.code, TooLarge.code, Unavailable.code),
    },
    openapi_extra=requires("preview"),
)
async def export_voice(voice_id: str, caller: FromCaller, resources: FromResources) -> Response:
    """Export a voice as one file."""
    bundle = await make_bundle(resources, caller.owner, voice_id)
    await record(resources, caller.owner, "exported", voice_id, hashes={"bundle": sha256(bundle)})
    return Response(bundle, media_type=ZIP, headers=_headers(f'attachment; filename="{voice_id}.zip"'))


@router.post("/voices/import", status_code=201, **_IMPORT_ERRORS | {"responses": _IMPORTED})
async def import_voice(
    caller: FromCaller,
    services: FromServices,
    request: Request,
    response: Response,
    bundle: Annotated[UploadFile, File(description="The zip file of `GET /voices/{voice_id}/export`")],
    name: Annotated[str | None, Form(description="The name of the voice. Default: that in the bundle")] = None,
) -> SavedVoice:
    """Save the voice of a bundle, from this or another installation."""
    resources = services.resources
    check = partial(ensure_checked, resources, services.waiters, caller.owner)
    saved = await importing.import_voice(resources, caller.owner, bundle.read, name, check=check)
    await mark_answer(request, saved.reference_id)
    response.headers["Location"] = f"/voices/{saved.voice_id}"
    return view(saved)


def _headers(disposition: str) -> dict[str, str]:
    return {"Cache-Control": "private", "Content-Disposition": disposition}
