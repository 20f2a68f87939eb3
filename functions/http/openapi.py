"""The OpenAPI description, with the headers and errors that middleware adds to all routes."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from functions.http.middleware.observability import CORRELATION_HEADER
from functions.http.openai import errors as openai_errors
from functions.http.responses import problems
from functions.http.routing.authorized_route import SCHEME
from pipeline.domain import voice_names
from pipeline.settings import Settings

_STRING = {"type": "string"}
_CORRELATION_PARAMETER = {
    "name": CORRELATION_HEADER,
    "in": "header",
    "required": False,
    "description": "Id of this request in log lines, the response and events; generated if missing",
    "schema": _STRING,
}
_CORRELATION = {"description": "The id of the request", "schema": _STRING}
_RETRY_AFTER = {"description": "Seconds after which a retry may succeed", "schema": {"type": "integer"}}
_SHOULD_RETRY = {"description": "`false`: a retry fails too", "schema": _STRING}
_BODY_ERRORS = {
    "400": "The body is malformed",
    "408": "The body was not received in time",
    "413": "The body is too large",
    "415": "The body is compressed",
}
_KEY_ERRORS = {
    "401": "The key is missing or not valid",
    "403": "The key does not have the required scope",
    "429": "The owner's quota is exhausted",
}
_COMMON_ERRORS = {"500": "Internal error"}

Operation = dict[str, Any]


_SECURITY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key from `python -m functions.keys make`. Each operation names the scope that it requires",
}
_CHALLENGE = {"description": "RFC 6750: a key is required, or a key with another scope", "schema": _STRING}
_RATE_LIMIT = {
    "RateLimit-Policy": {"description": "The owner's quota: `q` requests in `w` seconds", "schema": _STRING},
    "RateLimit": {"description": "The rest of the quota: `r` requests in the next `t` seconds", "schema": _STRING},
}


class Api(FastAPI):
    """An application. Its description includes API keys only if authentication is on."""

    def __init__(self, settings: Settings, **more: Any) -> None:
        super().__init__(**more)
        self._wants_keys = settings.wants_keys
        self._limits = string_limits(settings)

    def openapi(self) -> dict[str, Any]:
        """Return the description of all routes, headers, media types and errors."""
        if self.openapi_schema is None:
            schema = super().openapi()
            for path in schema["paths"].values():
                for method, operation in path.items():
                    _complete(operation, has_content=method != "head", wants_keys=self._wants_keys)
            for name, path in schema["paths"].items():
                if openai_errors.is_openai(name):
                    _describe_openai_errors(path)
            _complete_requests(schema, self._limits)
            if self._wants_keys:
                schema["components"]["securitySchemes"] = {SCHEME: _SECURITY_SCHEME}
            # Here instead of in each route, where FastAPI would build it once per error and route.
            errors = (problems.Problem, openai_errors.ErrorResponse)
            schema["components"]["schemas"] |= models_json_schema(
                [(model, "serialization") for model in errors], ref_template="#/components/schemas/{model}"
            )[1]["$defs"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(unused, None)
            self.openapi_schema = schema
        return self.openapi_schema


def string_limits(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the JSON Schema limits of the strings in a request, by name; the domain's rules validate them."""
    id_ = {"pattern": "^[0-9a-f]{32}$"}
    return {
        "response_text": {"minLength": 1, "maxLength": settings.text_max_chars},
        "transcription": {"maxLength": settings.transcription_max_chars},
        "name": {"minLength": 1, "maxLength": voice_names.NAME_MAX},
        "description": {"maxLength": voice_names.DESCRIPTION_MAX},
        "voice_id": {"minLength": 1, "maxLength": voice_names.VOICE_ID_MAX},
        "session_id": id_,
        "job_id": id_,
    }


def _complete_requests(schema: dict[str, Any], limits: dict[str, dict[str, Any]]) -> None:
    models = schema["components"]["schemas"]
    for path in schema["paths"].values():
        for operation in path.values():
            for parameter in operation["parameters"]:
                parameter["schema"] = _without_null(parameter["schema"])
                _limit(parameter["name"], parameter["schema"], limits)
            for media_type, model in _models_of_body(operation):
                fields = models[model]["properties"]
                if media_type != "application/json":
                    fields.update({name: _without_null(field) for name, field in fields.items()})
                for name, field in fields.items():
                    _limit(name, field, limits)


def _models_of_body(operation: Operation) -> list[tuple[str, str]]:
    """Return the media types and the names of the models of a body."""
    found = []
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        choices = content["schema"].get("anyOf", [content["schema"]])
        found += [(media_type, choice["$ref"].rpartition("/")[2]) for choice in choices if "$ref" in choice]
    return found


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter or a form field, which can be missing but not null.

    Files get `format: binary`, by which generators of clients recognize them.
    """
    if "anyOf" in field:
        choices = [choice for choice in field["anyOf"] if choice != {"type": "null"}]
        rest = {name: value for name, value in field.items() if name != "anyOf"}
        field = {**choices[0], **rest} if len(choices) == 1 else {**rest, "anyOf": choices}
    return field | ({"format": "binary"} if "contentMediaType" in field else {})


def _limit(name: str, field: dict[str, Any], limits: dict[str, dict[str, Any]]) -> None:
    for choice in field.get("anyOf", [field]):
        if choice.get("type") == "string":
            choice.update(limits.get(name, {}))


def _complete(operation: Operation, *, has_content: bool, wants_keys: bool) -> None:
    if not wants_keys:
        del operation["security"]
    wants_key = bool(operation.get("security"))
    _add_errors(operation, wants_key=wants_key)
    for status, response in operation["responses"].items():
        response.setdefault("headers", {}).update(_headers(status, wants_key=wants_key))
        if not has_content:
            response.pop("content", None)
        elif int(status) >= 400:
            response["content"] = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation.setdefault("parameters", []).append(_CORRELATION_PARAMETER)


def _describe_openai_errors(operations: dict[str, Operation]) -> None:
    responses = [response for operation in operations.values() for response in operation["responses"].items()]
    for status, response in responses:
        response["headers"][openai_errors.REQUEST_ID] = _CORRELATION
        if int(status) >= 400:
            response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
        if int(status) in openai_errors.NEVER_RETRIED:
            response["headers"][openai_errors.SHOULD_RETRY] = _SHOULD_RETRY


def _add_errors(operation: Operation, *, wants_key: bool) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        # FastAPI adds it to every route with parameters, even if no value can be invalid.
        del responses["422"]
    errors = _COMMON_ERRORS | (_BODY_ERRORS if "requestBody" in operation else {})
    for status, description in (errors | (_KEY_ERRORS if wants_key else {})).items():
        responses.setdefault(status, {"description": description})


def _headers(status: str, *, wants_key: bool) -> dict[str, Any]:
    headers: dict[str, Any] = {CORRELATION_HEADER: _CORRELATION}
    if status in {"429", "503"}:
        headers["Retry-After"] = _RETRY_AFTER
    if status in {"401", "403"}:
        headers["WWW-Authenticate"] = _CHALLENGE
    elif wants_key:
        headers |= _RATE_LIMIT
    return headers
