"""The HTTP API: routes, errors and what every request passes through."""

from fastapi import FastAPI

from functions import docs, problems
from functions.middleware import AccessLog, BodyLimit, Correlation, Unexpected
from functions.openapi import Api
from functions.routes import health, jobs, previews, uploads, voices
from functions.waiting import Waiters
from pipeline.ids import id_maker, utc_now
from pipeline.resources import Resources
from pipeline.settings import Settings

DESCRIPTION = """
Clone a voice from a few seconds of speech, hear it speak any text, keep it if you like it.

Every error is an RFC 9457 problem that also carries `error`. Every answer carries `X-Correlation-Id`: the caller's,
or a new one. Results are also pushed to WebSocket clients, on `/ws`.
"""


def create_app(settings: Settings) -> FastAPI:
    """Make the application; `serve_with` must be called before it serves."""
    app = Api(
        title="Voice cloning service",
        description=DESCRIPTION.strip(),
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    for routes in (previews, voices, uploads, jobs, health):
        app.include_router(routes.router)
    docs.install(app)
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.request_max_bytes, otherwise=_otherwise(settings))
    app.add_middleware(Unexpected)
    app.add_middleware(AccessLog)
    app.add_middleware(Correlation, new_id=id_maker(utc_now))
    return app


def _otherwise(settings: Settings) -> str:
    """Say how a recording comes in that may come in, but not through here."""
    if settings.request_max_bytes > settings.reference_max_bytes:
        return ""
    return f" A recording of up to {settings.reference_max_megabytes:g} MB can be uploaded by POST /uploads."


def serve_with(app: FastAPI, resources: Resources) -> Waiters:
    """Give the application what its routes reach for."""
    waiters = Waiters(resources)
    app.state.resources, app.state.waiters = resources, waiters
    return waiters
