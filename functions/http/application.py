"""The HTTP API: routes, error handlers and middleware."""

from functools import partial

from fastapi import FastAPI

from functions.http.middleware.body_limits import BodyLimit, BodyLimits
from functions.http.middleware.deadline import RequestDeadline
from functions.http.middleware.head_requests import HeadRequests
from functions.http.middleware.observability import AccessLog, Correlation, RateLimit, RequestSpan, Unexpected
from functions.http.middleware.origins import Cors, LoopbackHosts, OriginCheck
from functions.http.middleware.path_prefix import PathPrefix, RoutedPath
from functions.http.middleware.security_headers import RepeatedHeaders, SecurityHeaders
from functions.http.middleware.shutdown import CancelledRequests
from functions.http.openai import models as openai_models
from functions.http.openai import speech as openai_speech
from functions.http.openai import voice_consents as openai_voice_consents
from functions.http.openai import voices as openai_voices
from functions.http.openai.errors import OpenAiErrors
from functions.http.openapi import Api
from functions.http.pages import docs_page, studio_page
from functions.http.responses import problems
from functions.http.routes import (
    health,
    job_events,
    jobs,
    presigned_urls,
    preview_audio,
    previews,
    references,
    revocations,
    status,
    uploads,
    voice_files,
    voices,
    ws_tickets,
)
from functions.http.services import create_services
from functions.http.trust import audit, consent_links, consents, disclaimer, verification
from functions.previews.completion_waiters import CompletionWaiters
from pipeline import __version__
from pipeline.clients.resources import Resources
from pipeline.domain.presigned_urls import UPLOAD_PATH
from pipeline.ids import id_maker, utc_now
from pipeline.settings import Settings

# The routes that accept a recording in a multipart form.
RECORDING_PATHS = {
    "/preview",
    "/upload",
    "/verify",
    "/references/check",
    "/voices/import",
    "/v1/audio/voices",
    "/v1/audio/voice_consents",
}
CONSENT_RECORDINGS = "/consents/"
SPEECH_PATH = "/v1/audio/speech"
SIGNED_UPLOADS = UPLOAD_PATH.partition("{")[0]
# Any other body: some short fields, and a text with up to twelve bytes per character (`\ud83d\ude00`).
FIELDS_BYTES = 64 * 1024
CHARACTER_BYTES = 12

DESCRIPTION = """
Clone a voice from a few seconds of speech, listen to it speak your text, and save it.

Every error is an RFC 9457 problem with an additional member `error`. Every response has an `X-Correlation-Id`: the
client's, or a new one. Every route with `GET` supports `HEAD`. WebSocket clients receive results on `/ws`.
"""


def create_app(settings: Settings, *, on_loopback: bool = False) -> FastAPI:
    """Return the application; `serve_with` must be called before it handles requests.

    Parameters
    ----------
    settings
        The settings.
    on_loopback
        Whether it is served on a loopback interface only.
    """
    app = Api(
        settings,
        title="Voice cloning service",
        description=DESCRIPTION.strip(),
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would contain the host of the request, unchecked
        separate_input_output_schemas=False,
    )
    presigned = (presigned_urls,) if settings.serves_links else ()
    for routes in (
        previews,
        preview_audio,
        voices,
        voice_files,
        revocations,
        consents,
        consent_links,
        uploads,
        references,
        jobs,
        job_events,
        ws_tickets,
        health,
        status,
        audit,
        disclaimer,
        verification,
        openai_models,
        openai_speech,
        openai_voices,
        openai_voice_consents,
        *presigned,
    ):
        # Added directly: `include_router` would create each route again, which slows down a function's cold start.
        app.router.routes.extend(routes.router.routes)
    for lists in (openai_models, openai_voices):
        app.router.routes.extend(lists.public_router.routes)
    docs_page.install(app)
    studio_page.install(app, settings)
    problems.install(app)
    # The middleware that is added last runs first.
    app.add_middleware(RoutedPath)
    app.add_middleware(HeadRequests)
    app.add_middleware(RequestDeadline, seconds=settings.answer_seconds)
    app.add_middleware(
        BodyLimits,
        limit=partial(body_limit, settings=settings),
        silence_seconds=settings.body_timeout_seconds,
    )
    app.add_middleware(RateLimit)
    app.add_middleware(OriginCheck, allowed=settings.allowed_origins, checks_forms=not settings.wants_keys)
    if on_loopback and not settings.wants_keys:
        app.add_middleware(LoopbackHosts)
    app.add_middleware(RepeatedHeaders)
    app.add_middleware(Unexpected)
    app.add_middleware(CancelledRequests)
    if settings.allowed_origins:
        app.add_middleware(Cors, origins=settings.allowed_origins)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(OpenAiErrors)
    app.add_middleware(AccessLog)
    if settings.traces_url is not None:
        app.add_middleware(RequestSpan)
    app.add_middleware(Correlation, new_id=id_maker(utc_now))
    app.add_middleware(PathPrefix, root_path=settings.root_path)
    return app


def body_limit(path: str, content_type: str, settings: Settings) -> BodyLimit:
    """Return the size limit of request bodies for a path and a media type.

    Only recordings may be large: as a file in a multipart form, or as base64 in one field of a JSON body.
    """
    most = settings.request_max_bytes
    fields = FIELDS_BYTES + CHARACTER_BYTES * max(settings.text_max_chars, settings.transcription_max_chars)
    hint = "" if most > settings.reference_max_bytes else _upload_hint(settings)
    is_multipart = content_type.lstrip().lower().startswith("multipart/form-data")
    is_consent = path.startswith(CONSENT_RECORDINGS) and path.endswith("/recording")
    is_recording = path in RECORDING_PATHS or path.startswith(SIGNED_UPLOADS) or is_consent
    if is_multipart and is_recording:
        return BodyLimit(most, hint)
    if path == SPEECH_PATH:
        return BodyLimit(most, hint, openai_speech.SpeechRoute.long_field, min(most, fields))
    return BodyLimit(min(most, fields))


def _upload_hint(settings: Settings) -> str:
    return f" A recording of up to {settings.reference_max_megabytes:g} MB can be uploaded by POST /uploads."


def serve_with(app: FastAPI, resources: Resources) -> CompletionWaiters:
    """Set the services of the application's routes; return the requests that wait for their jobs."""
    services = create_services(resources, app.version)
    app.state.services = services
    return services.waiters
