"""Adapter between API Gateway's HTTP events (payload format 2.0) and the ASGI application."""

import asyncio
from collections.abc import Mapping
from typing import Any

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.types import ASGI
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.aws.process import Event, Handler, Process
from functions.aws.viewer_address import viewer_address
from functions.http.application import create_app, serve_with
from functions.http.middleware.deadline import FIRST_BYTE_AT
from functions.http.middleware.observability import CORRELATION_HEADER
from functions.http.responses import problems
from functions.http.responses.statuses import STATUS
from pipeline.errors import Forbidden
from pipeline.ids import Clock
from pipeline.settings import Settings
from pipeline.telemetry import tracing


def answering(process: Process) -> Handler:
    """Return the handler of the HTTP API."""
    app = create_app(process.resources.settings)
    serve_with(app, process.resources)
    text_types = [*DEFAULT_TEXT_MIME_TYPES, problems.MEDIA_TYPE]  # all others are encoded in base64
    adapter = Mangum(_timed(app, process.resources.clock), lifespan="off", text_mime_types=text_types)

    def handler(event: Event, context: Any) -> Any:
        # A request without a correlation id gets the gateway's request id, which is in its access log too.
        names = {CORRELATION_HEADER.lower(): event["requestContext"]["requestId"]}
        headers = names | event["headers"]
        try:
            request_context = _from_viewer(event["requestContext"], headers, process.resources.settings)
            return adapter({**event, "headers": headers, "requestContext": request_context}, context)
        except Forbidden as error:
            problem = problems.response(STATUS[error.code], error.code, error.message)
            return {
                "statusCode": problem.status_code,
                "headers": dict(problem.headers),
                "body": bytes(problem.body).decode(),
            }
        finally:
            tracing.flush()  # Lambda freezes the process between events

    return handler


def _from_viewer(context: Event, headers: Mapping[str, str], settings: Settings) -> Event:
    """Replace the source address, which is CloudFront's for a request that came through it, by the client's."""
    http = context["http"]
    return {**context, "http": {**http, "sourceIp": viewer_address(headers, http["sourceIp"], settings)}}


def _timed(app: ASGIApp, clock: Clock) -> ASGI:
    """Measure a request's time from when the gateway received it, which includes a cold start."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        received_at = scope["aws.event"]["requestContext"]["timeEpoch"] / 1000
        elapsed = max(0.0, clock().timestamp() - received_at)
        scope.setdefault("state", {})[FIRST_BYTE_AT] = asyncio.get_running_loop().time() - elapsed
        await app(scope, receive, send)

    return serve
