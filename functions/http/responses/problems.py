"""Errors as HTTP responses: RFC 9457 problem details with an additional member `error`."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from functions.http.responses import rate_limit_headers
from functions.http.responses.files import UnsatisfiableRange
from functions.http.responses.statuses import STATUS
from pipeline.errors import (
    Forbidden,
    InvalidInput,
    NoCredentials,
    PipelineError,
    StorageFull,
    TooMany,
    Unauthorized,
    Unavailable,
    unavailability,
    validation_field,
    validation_message,
)

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499

# RFC 6750, section 3: the response to a request without a key has no error code.
_REALM = 'Bearer realm="voice cloning"'
_CHALLENGES: dict[type[PipelineError], str] = {
    NoCredentials: _REALM,
    Unauthorized: f'{_REALM}, error="invalid_token"',
    Forbidden: f'{_REALM}, error="insufficient_scope"',
}

_RETRY_AFTER = {HTTPStatus.SERVICE_UNAVAILABLE: 5, HTTPStatus.INSUFFICIENT_STORAGE: 60}  # seconds

log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """One error in one field."""

    field: str
    message: str


class Problem(BaseModel):
    """An error as defined by RFC 9457, with the message repeated as `error`."""

    type: str = "about:blank"
    title: str = Field(description="The reason phrase of the status")
    status: int
    detail: str = Field(description="What is wrong, and what is valid")
    error: str = Field(description="The same as `detail`")
    code: str = Field(description="Stable error code")
    errors: list[FieldError] | None = Field(None, description="The invalid fields")
    job_id: str | None = Field(None, description="The job, if the error belongs to one")


def answers(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for the errors that a route may return."""
    more = {StorageFull.code} if Unavailable.code in codes else set()
    statuses = sorted({STATUS[code] for code in {*codes, *more}})
    return {int(status): {"description": status.phrase} for status in statuses}


def response(
    status: int,
    code: str,
    message: str,
    *,
    fields: Iterable[FieldError] = (),
    job_id: str | None = None,
    retry_after: int | None = None,
) -> JSONResponse:
    """Return a problem response."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=int(status),
        detail=message,
        error=message,
        code=code,
        errors=list(fields) or None,
        job_id=job_id,
    )
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    body = problem.model_dump(exclude_none=True)
    return JSONResponse(body, int(status), headers=headers, media_type=MEDIA_TYPE)


def of_error(error: PipelineError, *, job_id: str | None = None) -> JSONResponse:
    """Return the response for one of the pipeline's errors."""
    problem = of_code(error.code, error.message, error.field, job_id=job_id, retry_after=error.retry_after)
    if isinstance(error, TooMany) and error.quota_status:
        problem.headers.update(rate_limit_headers.headers(error.quota_status))
    if challenge := _CHALLENGES.get(type(error)):
        problem.headers["WWW-Authenticate"] = challenge
    return problem


def of_code(
    code: str, message: str, field: str | None, *, job_id: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    """Return the response for an error given by its code, such as that of a failed job."""
    status = STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
    if retry_after is None:
        retry_after = _RETRY_AFTER.get(status)
    fields = [FieldError(field=field, message=message)] if field else []
    return response(status, code, message, fields=fields, job_id=job_id, retry_after=retry_after)


def install(app: FastAPI) -> None:
    """Register the handlers that convert exceptions to problems; `unexpected` is for those without a handler."""
    app.add_exception_handler(PipelineError, _pipeline_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(UnsatisfiableRange, _unsatisfiable_range)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)


async def _pipeline_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PipelineError)  # noqa: S101 - what the handler is registered for
    return of_exception(error)


def of_exception(error: PipelineError, *, job_id: str | None = None) -> JSONResponse:
    """Return the response for an error that ended a request; details of a dependency are logged, not returned."""
    if isinstance(error, Unavailable):
        log.warning("unavailable", reason=error.message, cause=repr(error.__cause__))
        return of_code(error.code, unavailability(error), None, job_id=job_id, retry_after=error.retry_after)
    return of_error(error, job_id=job_id)


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what the handler is registered for
    messages: dict[str, list[str]] = {}
    for problem in error.errors():
        # The first part of the location is body, query, path or header.
        where, *path = problem["loc"]
        found = messages.setdefault(validation_field(path) or str(where), [])
        text = "should be a file" if "UploadFile" in problem["msg"] else validation_message(problem)
        # The alternatives of a union are errors of one field: "should be a string or a JSON object".
        alternative = text.removeprefix("should be ")
        if not found:
            found.append(text)
        elif text not in found and alternative not in found:
            found.append(alternative if found[0].startswith("should be ") else text)
    fields = [FieldError(field=name, message=" or ".join(found)) for name, found in messages.items()]
    message = "; ".join(f"{field.field} {field.message}" for field in fields) + "."
    return response(HTTPStatus.UNPROCESSABLE_ENTITY, InvalidInput.code, message, fields=fields)


async def _client_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)  # for the access log: nobody receives it


async def _unsatisfiable_range(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UnsatisfiableRange)  # noqa: S101 - what the handler is registered for
    size = error.size
    problem = response(416, "range_not_satisfiable", f"The range is outside of the file, which has {size} bytes.")
    problem.headers["Content-Range"] = f"bytes */{size}"
    return problem


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - what the handler is registered for
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    problem = response(status, code, str(error.detail))
    problem.headers.update(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        problem.headers["Allow"] = ", ".join(_methods_of(request))
    return problem


def _methods_of(request: Request) -> list[str]:
    """Return the methods of all routes for a path; the error is raised by the first route."""

    def is_allowed(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    allowed = {method for method in _METHODS if is_allowed(method)}
    return sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))


def stopping(*, job_id: str | None = None) -> JSONResponse:
    """Return the response to a request that a shutdown interrupts; a job that was created continues."""
    message = (
        "The service is shutting down; the job continues." if job_id else "The service is shutting down; retry."
    )
    return of_code(Unavailable.code, message, None, job_id=job_id)


def unexpected() -> JSONResponse:
    """Return the response to an exception without a handler."""
    return response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Internal error. It has been logged.")
