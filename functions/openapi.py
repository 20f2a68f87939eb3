"""The API's description, completed by what holds for every route: middleware is not seen by FastAPI."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from functions import problems
from functions.middleware import CORRELATION_HEADER

_STRING = {"type": "string"}
_CORRELATION_PARAMETER = {
    "name": CORRELATION_HEADER,
    "in": "header",
    "required": False,
    "description": "Names this request in every log line, the answer and pushed events; made when not given",
    "schema": _STRING,
}
_CORRELATION = {"description": "The caller's, or a new one", "schema": _STRING}
_RETRY_AFTER = {"description": "Seconds after which the same request may work", "schema": {"type": "integer"}}
_OF_ANY_BODY = {"400": "The body can't be read", "413": "The body is too large"}
_OF_ANY_REQUEST = {"500": "Something went wrong on our side"}

Operation = dict[str, Any]


class Api(FastAPI):
    """An application that describes itself truthfully."""

    def openapi(self) -> dict[str, Any]:
        """Describe every route, header, media type and error."""
        if self.openapi_schema is None:
            schema = super().openapi()
            for path in schema["paths"].values():
                for method, operation in path.items():
                    _complete(operation, has_content=method != "head")
            # Here and not at each route, where FastAPI would build it once for every error of every route.
            schema["components"]["schemas"] |= models_json_schema(
                [(problems.Problem, "serialization")], ref_template="#/components/schemas/{model}"
            )[1]["$defs"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(unused, None)
            self.openapi_schema = schema
        return self.openapi_schema


def _complete(operation: Operation, *, has_content: bool) -> None:
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        # FastAPI adds it to whatever has a parameter, though a text can't be wrong.
        del answers["422"]
    for status, description in (_OF_ANY_BODY if "requestBody" in operation else {}).items():
        answers.setdefault(status, {"description": description})
    for status, description in _OF_ANY_REQUEST.items():
        answers.setdefault(status, {"description": description})
    for status, answer in answers.items():
        headers = answer.setdefault("headers", {})
        headers[CORRELATION_HEADER] = _CORRELATION
        if status == "503":
            headers["Retry-After"] = _RETRY_AFTER
        if not has_content:
            answer.pop("content", None)
        elif int(status) >= 400:
            answer["content"] = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation.setdefault("parameters", []).append(_CORRELATION_PARAMETER)
