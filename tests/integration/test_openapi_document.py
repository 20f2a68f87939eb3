"""The OpenAPI document is complete and consistent."""

import re
from typing import Any

import pytest

from functions.http.application import create_app
from functions.http.openai.errors import is_openai
from functions.http.responses import problems
from pipeline.settings import Settings
from tests.support.openapi import DESCRIPTION, OPERATIONS


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_openapi_describes_responses(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    for status, answer in operation["responses"].items():
        assert answer["description"]
        assert "X-Correlation-Id" in answer["headers"]
        assert all(header["description"] and header["schema"] for header in answer["headers"].values())
        if int(status) >= 400:
            assert answer.get("content", {}) == ({} if method == "head" else error_content(path))
        if status == "503":
            assert "Retry-After" in answer["headers"]


def error_content(path: str) -> dict[str, Any]:
    """Return the expected description of errors: OpenAI's format under `/v1`, else problem details."""
    media_type, model = (
        ("application/json", "ErrorResponse") if is_openai(path) else (problems.MEDIA_TYPE, "Problem")
    )
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{model}"}}}


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_openapi_describes_parameters(method: str, path: str, operation: dict[str, Any]) -> None:
    in_path = set(re.findall(r"{(\w+)}", path))
    named = {parameter["name"] for parameter in operation["parameters"]}
    assert in_path | {"X-Correlation-Id"} <= named
    for parameter in operation["parameters"]:
        assert parameter["name"] in in_path or parameter.get("description")


def test_openapi_routes() -> None:
    assert {f"{method.upper()} {path}" for path, methods in DESCRIPTION["paths"].items() for method in methods} == {
        "POST /preview",
        "POST /preview-from-voice",
        "GET /voices",
        "POST /voices",
        "GET /voices/{voice_id}",
        "PATCH /voices/{voice_id}",
        "DELETE /voices/{voice_id}",
        "GET /voices/{voice_id}/sample",
        "GET /voices/{voice_id}/export",
        "GET /revocations/{revocation_id}",
        "PUT /voices/{voice_id}/consent",
        "POST /consents",
        "GET /consents",
        "GET /consents/{consent_id}",
        "POST /consents/{consent_id}/recording",
        "GET /consents/{consent_id}/recording",
        "POST /consents/{consent_id}/review",
        "GET /consents/{consent_id}/receipt",
        "GET /consents/{consent_id}/revocation",
        "POST /consents/{consent_id}/revocation",
        "GET /signing-key",
        "POST /voices/import",
        "POST /uploads",
        "POST /upload",
        "POST /verify",
        "POST /references/check",
        "GET /audit",
        "GET /disclaimer",
        "PUT /disclaimer",
        "GET /jobs/{job_id}",
        "GET /jobs/{job_id}/events",
        "GET /previews/{job_id}.wav",
        "HEAD /previews/{job_id}.wav",
        "DELETE /jobs/{job_id}",
        "GET /previews/{job_id}.{extension}",
        "POST /ws-tickets",
        "GET /health",
        "GET /status",
        "GET /metrics",
        "POST /v1/audio/speech",
        "GET /v1/audio/voices",
        "POST /v1/audio/voices",
        "GET /v1/audio/voices/{voice_id}",
        "DELETE /v1/audio/voices/{voice_id}",
        "POST /v1/audio/voice_consents",
        "GET /v1/audio/voice_consents",
        "GET /v1/audio/voice_consents/{consent_id}",
        "POST /v1/audio/voice_consents/{consent_id}",
        "DELETE /v1/audio/voice_consents/{consent_id}",
        "GET /v1/models",
        "GET /v1/test",
        "GET /v1/models/{model}",
        "GET /v1/audio/models",
    }
    assert DESCRIPTION["paths"]["/upload"]["post"]["deprecated"]


def test_openapi_operation_ids() -> None:
    ids = [operation["operationId"] for methods in DESCRIPTION["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z]+([A-Z][a-z]+)+", id_) for id_ in ids), ids
    assert {"createPreview", "listVoices", "openaiCreateSpeech"} <= set(ids)


def test_openapi_schema_names() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    titles = [schema["title"] for schema in schemas.values()]
    assert len(set(titles)) == len(titles)
    assert not [name for name in schemas if "__" in name]


def test_openapi_has_no_unused_schemas() -> None:
    text = str(DESCRIPTION)
    for name in DESCRIPTION["components"]["schemas"]:
        assert f"#/components/schemas/{name}'" in text, name


@pytest.mark.parametrize(
    ("model", "field", "limits"),
    [
        ("Body_createPreview", "response_text", {"minLength": 1, "maxLength": 4096}),
        ("Body_createPreview", "transcription", {"maxLength": 4096}),
        ("Body_createPreview", "session_id", {"pattern": "^[0-9a-f]{32}$"}),
        ("Body_createPreviewFromVoice", "voice_id", {"minLength": 1, "maxLength": 64}),
        ("NewUpload", "transcription", {"maxLength": 4096}),
        ("NewVoice", "name", {"minLength": 1, "maxLength": 80}),
        ("NewVoice", "description", {"maxLength": 500}),
    ],
)
def test_openapi_field_limits(model: str, field: str, limits: dict[str, Any]) -> None:
    described = DESCRIPTION["components"]["schemas"][model]["properties"][field]
    string = next(choice for choice in described.get("anyOf", [described]) if choice["type"] == "string")
    assert limits.items() <= string.items()


def test_openapi_limits_follow_settings() -> None:
    described = create_app(Settings(text_max_chars=7)).openapi()["components"]["schemas"]
    assert described["Body_createPreview"]["properties"]["response_text"]["maxLength"] == 7


@pytest.mark.parametrize("path", ["/jobs/{job_id}", "/previews/{job_id}.wav"])
def test_openapi_path_id_pattern(path: str) -> None:
    (parameter,) = (p for p in DESCRIPTION["paths"][path]["get"]["parameters"] if p["name"] == "job_id")
    assert parameter["schema"]["pattern"] == "^[0-9a-f]{32}$"
