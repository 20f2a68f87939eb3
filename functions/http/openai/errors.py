"""Error responses under `/v1` in OpenAI's format, and the `x-request-id` header."""

import json
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.http.responses import problems
from pipeline.telemetry.logs import current_correlation_id

REQUEST_ID = "x-request-id"
SHOULD_RETRY = "x-should-retry"

_TYPES: dict[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
# OpenAI's clients retry a 409 by default, although the conflict remains.
NEVER_RETRIED = {409, 422}
# The fields of `/v1/audio/speech` by the names that jobs and formats use.
_FIELDS = {"text": "input", "format": "response_format", "audio": "ref_audio", "transcription": "ref_text"}


def is_openai(path: str) -> bool:
    """Return whether a path is under `/v1`."""
    return path == "/v1" or path.startswith("/v1/")


class ErrorDetail(BaseModel):
    """The kind of an error, its message, and the field that caused it."""

    message: str
    type: Literal[
        "authentication_error",
        "permission_error",
        "not_found_error",
        "conflict_error",
        "rate_limit_error",
        "invalid_request_error",
        "server_error",
    ]
    param: str | None = Field(description="The field that is not valid")
    code: str | None


class ErrorResponse(BaseModel):
    """An error as OpenAI's API returns it."""

    error: ErrorDetail


class OpenAiErrors:
    """Convert the problem responses of `/v1` to OpenAI's errors, and add `x-request-id` to every response.

    `x-request-id` is the correlation id. OpenAI's clients show it with an error. This is middleware, because some
    errors come from other middleware, such as the error for a body that is too large.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and convert its response."""
        if scope["type"] != "http" or not is_openai(scope["path"]):
            await self._app(scope, receive, send)
            return
        problem: Message | None = None
        body = b""

        async def send_converted(message: Message) -> None:
            nonlocal problem, body
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = current_correlation_id() or ""
                if Headers(raw=message["headers"]).get("content-type") == problems.MEDIA_TYPE:
                    problem = message
                    return
            elif problem is not None:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    await _converted(problem, body)(scope, receive, send)
                return
            await send(message)

        await self._app(scope, receive, send_converted)


def _converted(start: Message, body: bytes) -> JSONResponse:
    status = start["status"]
    headers = MutableHeaders(raw=start["headers"])
    del headers["content-length"], headers["content-type"]
    if status in NEVER_RETRIED:
        headers[SHOULD_RETRY] = "false"
    error = ErrorResponse(error=_detail(status, json.loads(body) if body else {}))
    response = JSONResponse(error.model_dump(), status)
    response.raw_headers += headers.raw
    return response


def _detail(status: int, problem: dict[str, Any]) -> ErrorDetail:
    fields = problem.get("errors") or [{}]
    return ErrorDetail(
        message=problem.get("detail", ""),
        type=_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        param=_FIELDS.get(field := fields[0].get("field"), field),
        code=problem.get("code"),
    )
