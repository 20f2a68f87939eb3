"""The responses of the API match the OpenAPI document."""

import base64
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance

from pipeline.contract import layout
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.support.bundles import foreign_bundle
from tests.support.fake_service import FakeService
from tests.support.openapi import API, DESCRIPTION, OPERATIONS, SLOW, Prepared, check, client_of, described
from tests.support.speech import voice_wav


# A fixture: each pytest-xdist worker would read a schema of the module, and generate its requests.
@pytest.fixture
def schema() -> BaseSchema:
    config = schemathesis.Config.discover()
    config.projects.default.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    return schemathesis.openapi.from_asgi("/openapi.json", API, config=config)


@schemathesis.pytest.from_fixture("schema").parametrize()
@settings(max_examples=15, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_generated_requests_match_openapi(case: "schemathesis.Case[Any]") -> None:
    # Valid input may still be rejected: a schema cannot express that a voice exists or that bytes are audio.
    excluded: list[Any] = [positive_data_acceptance]
    if case.path == "/voices/import":  # a voice can have the id `import`, so other methods are allowed
        excluded.append(allow_header_conformance)
    case.call_and_validate(excluded_checks=excluded)


JSON, FORM = "application/json", "application/x-www-form-urlencoded"
WAV = ("a.wav", voice_wav(120.0))
CONSENT = {"person": "Ann", "purposes": ["books"], "language": "en"}
BUNDLE = {"bundle": foreign_bundle()}
VOICE = {"name": "Nova", "consent": "I agree."}
SHORT = base64.b64encode(WAV[1]).decode()
# Base64 that decodes to more than the maximum size of a recording.
LARGE = "A" * (4 * 1024 * 1024 * 15)
BODY_KINDS = {"/voices": "application/json", "/uploads": "application/json"}

ERRORS = [
    ("get", "/voices?limit=0", {}, 422),
    ("get", "/audit?after=1", {}, 422),
    ("post", "/voices", {"json": {}}, 422),
    ("post", "/voices", {"content": b"\xff", "headers": {"content-type": "application/json"}}, 400),
    ("post", "/voices", {"json": {"session_id": "UNKNOWN", "name": "Nova"}}, 404),
    ("post", "/voices", {"json": {"session_id": "EXPIRED", "name": "Nova"}}, 410),
    ("post", "/voices", {"json": {"session_id": "SESSION", "name": "Taken"}}, 409),
    ("post", "/voices", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("get", "/voices/nobody", {}, 404),
    ("get", "/voices/nobody/sample", {}, 404),
    ("get", "/voices/nobody/export", {}, 404),
    ("get", "/voices/taken/sample", {"headers": {"range": "bytes=9999999-"}}, 416),
    ("get", "/voices/taken/sample", {"headers": {"range": "bytes=0-1", "if-range": '"'}}, 422),
    ("patch", "/voices/nobody", {"json": {"name": "Nova"}}, 404),
    ("patch", "/voices/taken", {"json": {}}, 422),
    ("patch", "/voices/taken", {"content": b"\xff", "headers": {"content-type": "application/json"}}, 400),
    ("patch", "/voices/taken", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("patch", "/voices/taken", {"content": SLOW, "headers": {"content-type": "application/json"}}, 408),
    ("delete", "/voices/nobody", {}, 404),
    ("get", "/revocations/nobody", {}, 404),
    *(
        (method, path, {"content": content, "headers": {"content-type": media_type} | length}, status)
        for method, path, media_type, slow_type in (
            ("put", "/disclaimer", JSON, JSON),
            ("put", "/voices/taken/consent", JSON, JSON),
            ("post", "/consents", JSON, JSON),
            ("post", "/consents/ASKED/recording", "multipart/form-data", FORM),
            ("post", "/consents/GIVEN/review", JSON, JSON),
        )
        for content, media_type, length, status in (
            (b"\xff", media_type, {}, 400),
            (b"", media_type, {"content-length": "999999999"}, 413),
            (SLOW, slow_type, {}, 408),
            (b"x", media_type, {"content-encoding": "gzip"}, 415),
        )
    ),
    ("put", "/disclaimer", {"json": {"mode": 5}}, 422),
    ("put", "/voices/nobody/consent", {"json": {"consent_id": "CONSENT"}}, 404),
    ("put", "/voices/taken/consent", {"json": {}}, 422),
    ("post", "/consents", {"json": CONSENT | {"session_id": "UNKNOWN"}}, 404),
    ("post", "/consents", {"json": CONSENT | {"session_id": "EXPIRED"}}, 410),
    ("post", "/consents", {"json": CONSENT}, 422),
    ("get", "/consents?limit=0", {}, 422),
    ("get", "/consents/UNKNOWN", {}, 404),
    ("post", "/consents/UNKNOWN/recording", {"files": {"recording": WAV}}, 404),
    ("post", "/consents/ASKED/recording", {}, 422),
    ("post", "/consents/CONSENT/recording", {"files": {"recording": ("b.wav", voice_wav(200.0))}}, 409),
    ("get", "/consents/ASKED/recording", {}, 404),
    ("post", "/consents/UNKNOWN/review", {"json": {"decision": "accepted"}}, 404),
    ("post", "/consents/ASKED/review", {"json": {"decision": "accepted"}}, 422),
    *(
        (method, f"/consents/{what}", {}, status)
        for method, path in (("get", "receipt"), ("get", "revocation"), ("post", "revocation"))
        for what, status in (
            (f"UNKNOWN/{path}?token=x", 404),
            (f"GIVEN/{path}?token=x", 403),
            (f"GIVEN/{path}", 422),
        )
    ),
    ("post", "/uploads", {"json": {"transcription": 5}}, 422),
    ("post", "/uploads", {"content": b"\xff", "headers": {"content-type": "application/json"}}, 400),
    ("post", "/uploads", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("post", "/upload", {}, 422),
    ("post", "/voices/import", {}, 422),
    ("post", "/voices/import", {"files": {"bundle": b"PK"}}, 422),
    ("post", "/voices/import", {"files": BUNDLE, "data": {"name": "Taken"}}, 409),
    ("post", "/voices/import", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    ("post", "/voices/import", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("post", "/upload", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    ("post", "/upload", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("post", "/verify", {}, 422),
    ("post", "/verify", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    ("post", "/verify", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("post", "/references/check", {}, 422),
    ("post", "/references/check", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    ("post", "/references/check", {"data": {"session_id": "UNKNOWN"}}, 404),
    ("post", "/references/check", {"data": {"session_id": "EXPIRED"}}, 410),
    ("post", "/references/check", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("post", "/preview", {}, 422),
    ("post", "/preview", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    ("post", "/preview", {"data": {"session_id": "UNKNOWN", "response_text": "Hi."}}, 404),
    ("post", "/preview", {"data": {"session_id": "EXPIRED", "response_text": "Hi."}}, 410),
    ("post", "/preview", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    ("post", "/preview-from-voice", {}, 422),
    ("post", "/preview-from-voice", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    ("post", "/preview-from-voice", {"data": {"voice_id": "nobody", "response_text": "Hi."}}, 404),
    ("post", "/preview-from-voice", {"content": b"", "headers": {"content-length": "999999999"}}, 413),
    *(
        (
            "post",
            path,
            {
                "content": SLOW,
                "headers": {"content-type": BODY_KINDS.get(path, "application/x-www-form-urlencoded")},
            },
            408,
        )
        for path in (
            "/voices",
            "/voices/import",
            "/uploads",
            "/upload",
            "/verify",
            "/references/check",
            "/preview",
            "/preview-from-voice",
        )
    ),
    *(
        (method, path, {"content": b"x", "headers": {"content-encoding": "gzip"}}, 415)
        for method, path in (
            ("post", "/voices"),
            ("patch", "/voices/taken"),
            ("post", "/uploads"),
            ("post", "/upload"),
            ("post", "/verify"),
            ("post", "/references/check"),
            ("post", "/voices/import"),
            ("post", "/preview"),
            ("post", "/preview-from-voice"),
        )
    ),
    ("get", "/jobs/nobody", {}, 404),
    ("delete", "/jobs/nobody", {}, 404),
    ("get", "/jobs/nobody/events", {}, 404),
    ("get", "/previews/nobody.mp3", {}, 404),
    ("get", "/previews/nobody.midi", {}, 422),
    ("get", "/previews/EXPIRED.mp3", {}, 410),
    ("get", "/jobs/nobody?signed=maybe", {}, 422),
    ("get", "/previews/nobody.wav?signed=maybe", {}, 422),
    ("get", "/previews/nobody.wav", {}, 404),
    ("get", "/previews/EXPIRED.wav", {}, 410),
    ("get", "/previews/DONE.wav", {"headers": {"range": "bytes=9999999-"}}, 416),
    ("get", "/previews/DONE.pcm", {"headers": {"range": "bytes=9999999-"}}, 416),
]

OPENAI_ERRORS = [
    ("get", "/v1/models/nothing", {}, 404),
    ("post", "/v1/audio/speech", {"json": {"model": "tts-1", "voice": "nobody", "input": "Hi."}}, 404),
    ("post", "/v1/audio/speech", {"json": {"model": "tts-1", "voice": "taken", "input": ""}}, 422),
    ("post", "/v1/audio/speech", {"json": {"model": "tts-1", "ref_audio": LARGE, "input": "Hi."}}, 413),
    ("get", "/v1/audio/voices/nobody", {}, 404),
    ("delete", "/v1/audio/voices/nobody", {}, 404),
    ("post", "/v1/audio/voices", {}, 422),
    ("post", "/v1/audio/voices", {"data": VOICE | {"consent": "UNKNOWN"}, "files": {"audio_sample": WAV}}, 404),
    ("post", "/v1/audio/voices", {"data": VOICE | {"name": "Taken"}, "files": {"audio_sample": WAV}}, 409),
    ("post", "/v1/audio/voice_consents", {}, 422),
    ("get", "/v1/audio/voice_consents?limit=0", {}, 422),
    ("get", "/v1/audio/voice_consents/UNKNOWN", {}, 404),
    ("delete", "/v1/audio/voice_consents/UNKNOWN", {}, 404),
    ("post", "/v1/audio/voice_consents/UNKNOWN", {"json": {"name": "Mine"}}, 404),
    ("post", "/v1/audio/voice_consents/CONSENT", {"json": {}}, 422),
    *(
        ("post", path, {"content": content, "headers": {"content-type": media_type} | length}, status)
        for path, media_type, slow_type in (
            ("/v1/audio/speech", JSON, JSON),
            ("/v1/audio/voices", "multipart/form-data", FORM),
            ("/v1/audio/voice_consents", "multipart/form-data", FORM),
            ("/v1/audio/voice_consents/CONSENT", JSON, JSON),
        )
        for content, media_type, length, status in (
            (b"\xff", media_type, {}, 400),
            (b"", media_type, {"content-length": "999999999"}, 413),
            (SLOW, slow_type, {}, 408),
            (b"x", media_type, {"content-encoding": "gzip"}, 415),
        )
    ),
]

CONSENT_ERRORS: list[tuple[str, str, dict[str, Any]]] = [
    ("post", "/preview", {"data": {"session_id": "SESSION", "response_text": "Hi."}}),
    ("post", "/preview", {"data": {"response_text": "Hi."}, "files": {"audio": WAV}}),
    ("post", "/preview-from-voice", {"data": {"voice_id": "taken", "response_text": "Hi."}}),
    ("post", "/voices", {"json": {"session_id": "SESSION", "name": "Nova"}}),
    ("post", "/v1/audio/speech", {"json": {"model": "tts-1", "voice": "taken", "input": "Hi."}}),
    ("post", "/v1/audio/speech", {"json": {"model": "tts-1", "ref_audio": SHORT, "input": "Hi."}}),
    ("post", "/v1/audio/voices", {"data": VOICE, "files": {"audio_sample": WAV}}),
    ("post", "/voices/import", {"files": BUNDLE}),
]

OPENAI_ANSWERS = [
    ("get", "/v1/models", {}, 200),
    ("get", "/v1/audio/models", {}, 200),
    ("get", "/v1/models/tts-1", {}, 200),
    ("get", "/v1/audio/voices", {}, 200),
    ("get", "/v1/audio/voices/taken", {}, 200),
    ("delete", "/v1/audio/voices/taken", {}, 200),
    ("post", "/v1/audio/voices", {"data": VOICE, "files": {"audio_sample": WAV}}, 200),
    (
        "post",
        "/v1/audio/voices",
        {"data": VOICE | {"consent": "CONSENT"}, "files": {"audio_sample": WAV}},
        200,
    ),
    ("get", "/v1/audio/voice_consents?limit=1", {}, 200),
    ("get", "/v1/audio/voice_consents/CONSENT", {}, 200),
    ("post", "/v1/audio/voice_consents/CONSENT", {"json": {"name": "Mine"}}, 200),
    ("delete", "/v1/audio/voice_consents/CONSENT", {}, 200),
    (
        "post",
        "/v1/audio/voice_consents",
        {"data": {"name": "Mine", "language": "en-US"}, "files": {"recording": WAV}},
        200,
    ),
]

ANSWERS = [
    ("get", "/health", {}, 200),
    ("get", "/voices", {}, 200),
    ("get", "/voices?limit=1", {}, 200),
    ("get", "/voices/taken", {}, 200),
    ("get", "/voices/taken/sample", {}, 200),
    ("get", "/voices/taken/sample", {"headers": {"range": "bytes=0-1"}}, 206),
    ("get", "/voices/taken/sample", {"headers": {"if-none-match": "*"}}, 304),
    ("get", "/voices/taken/export", {}, 200),
    ("patch", "/voices/taken", {"json": {"name": "Nova"}}, 200),
    ("get", "/status", {}, 200),
    ("get", "/metrics", {}, 200),
    ("delete", "/voices/taken", {"headers": {"prefer": "return=representation"}}, 200),
    ("post", "/voices", {"json": {"session_id": "SESSION", "name": "Nova"}}, 201),
    ("put", "/voices/taken/consent", {"json": {"consent_id": "GIVEN"}}, 200),
    ("post", "/consents", {"json": CONSENT | {"session_id": "SESSION"}}, 201),
    ("post", "/consents", {"json": CONSENT | {"voice_id": "taken"}}, 201),
    ("get", "/consents?limit=1", {}, 200),
    ("get", "/consents/CONSENT", {}, 200),
    ("post", "/consents/ASKED/recording", {"files": {"recording": WAV}}, 200),
    ("get", "/consents/CONSENT/recording", {}, 200),
    ("post", "/consents/GIVEN/review", {"json": {"decision": "accepted", "note": "Heard."}}, 200),
    ("get", "/consents/GIVEN/receipt?token=SECRET", {}, 200),
    ("get", "/consents/GIVEN/revocation?token=SECRET", {}, 200),
    ("post", "/consents/GIVEN/revocation?token=SECRET", {}, 200),
    ("get", "/signing-key", {}, 200),
    ("post", "/voices/import", {"files": BUNDLE}, 201),
    ("post", "/uploads", {}, 201),
    ("post", "/verify", {"files": {"audio": WAV}}, 200),
    ("get", "/jobs/DONE", {}, 200),
    ("get", "/jobs/QUEUED", {}, 200),
    ("get", "/jobs/QUEUED/events", {}, 200),
    ("get", "/jobs/DONE/events", {}, 200),
    ("get", "/jobs/DONE/events", {"headers": {"last-event-id": "end"}}, 204),
    ("get", "/previews/DONE.wav", {}, 200),
    ("get", "/previews/DONE.wav", {"headers": {"range": "bytes=0-1"}}, 206),
    ("get", "/previews/DONE.wav", {"headers": {"if-none-match": "*"}}, 304),
    ("get", "/previews/DONE.pcm", {}, 200),
    ("get", "/previews/DONE.pcm", {"headers": {"range": "bytes=0-1"}}, 206),
    ("get", "/previews/DONE.pcm", {"headers": {"if-none-match": "*"}}, 304),
    ("head", "/previews/DONE.wav", {}, 200),
    ("post", "/references/check", {"data": {"session_id": "SESSION"}, "headers": {"prefer": "wait=0"}}, 202),
    ("post", "/preview", {"data": {"session_id": "SESSION", "response_text": "Hi."}}, 202),
    (
        "post",
        "/preview",
        {"data": {"session_id": "SESSION", "response_text": "Hi."}, "headers": {"prefer": "wait=0"}},
        202,
    ),
]


@pytest.fixture
async def prepared() -> Prepared:
    made = Prepared()
    await made.fill()
    return made


@pytest.mark.parametrize(("method", "path", "how", "status"), [*ERRORS, *ANSWERS, *OPENAI_ERRORS, *OPENAI_ANSWERS])
async def test_response_matches_openapi(
    prepared: Prepared, method: str, path: str, how: dict[str, Any], status: int
) -> None:
    async with client_of(prepared.fakes) as client:
        answer = await client.request(method, prepared.called(path), **prepared.called(how))
    check(answer, method, path, status)


REQUESTS: dict[str, dict[str, Any]] = {
    "post /references/check": {"data": {"session_id": "SESSION"}},
    "post /preview": {"data": {"session_id": "SESSION", "response_text": "Hi."}},
    "post /preview-from-voice": {"data": {"voice_id": "taken", "response_text": "Hi."}},
    "post /voices": {"json": {"session_id": "SESSION", "name": "Nova"}},
    "patch /voices/{voice_id}": {"json": {"name": "Nova"}},
    "post /uploads": {"json": {"transcription": "Hi."}},
    "put /voices/{voice_id}/consent": {"json": {"consent_id": "SESSION"}},
    "post /consents": {"json": CONSENT | {"session_id": "SESSION"}},
    "post /consents/{consent_id}/recording": {"files": {"recording": WAV}},
    "post /consents/{consent_id}/review": {"json": {"decision": "accepted"}},
    "get /consents/{consent_id}/receipt": {"params": {"token": "x"}},
    "get /consents/{consent_id}/revocation": {"params": {"token": "x"}},
    "post /consents/{consent_id}/revocation": {"params": {"token": "x"}},
    "post /voices/import": {"files": BUNDLE},
    "post /upload": {"files": {"audio": WAV}},
    "post /verify": {"files": {"audio": WAV}},
    "put /disclaimer": {"json": {"spoken": True}},
    "post /v1/audio/speech": {"json": {"model": "tts-1", "voice": "taken", "input": "Hi."}},
    "post /v1/audio/voices": {"data": VOICE, "files": {"audio_sample": WAV}},
    "post /v1/audio/voice_consents": {"data": {"name": "Mine", "language": "en"}, "files": {"recording": WAV}},
    "post /v1/audio/voice_consents/{consent_id}": {"json": {"name": "Mine"}},
}


@pytest.mark.parametrize(("method", "path", "how"), CONSENT_ERRORS)
async def test_required_consent_matches_openapi(
    prepared: Prepared, method: str, path: str, how: dict[str, Any]
) -> None:
    prepared.fakes.resources = prepared.fakes.with_settings(Settings(consent="require"))
    jobs_before = prepared.fakes.keys(layout.JOBS)
    async with client_of(prepared.fakes) as client:
        answer = await client.request(method, path, **prepared.called(how))
    check(answer, method, path, 403)
    assert "consent_required" in answer.text
    assert prepared.fakes.keys(layout.JOBS) == jobs_before


@pytest.mark.parametrize(
    ("method", "path"), [row.values[:2] for row in OPERATIONS], ids=[row.id for row in OPERATIONS]
)
async def test_server_errors_match_openapi(method: str, path: str) -> None:
    how = REQUESTS.get(f"{method} {path}", {})
    for name, value in (("{extension}", "pcm"), ("{voice_id}", "taken"), ("{model}", "tts-1")):
        path = path.replace(name, value)
    # The status routes report an unreachable storage in the body, with 200.
    unavailable = 200 if path in {"/status", "/metrics"} else 503
    unexpected = 500
    if path in {"/v1/test", "/v1/models", "/v1/audio/models"}:  # these routes read no storage
        unavailable = unexpected = 200
    for error, status in ((Unavailable, unavailable), (ZeroDivisionError, unexpected)):
        fakes = FakeService(Settings(preview_wait_seconds=0))
        known = fakes.resources.new_id()
        sent: dict[str, Any] = {
            kind: {n: v.replace("SESSION", known) if isinstance(v, str) else v for n, v in what.items()}
            for kind, what in how.items()
        }
        fakes.fail_after(0, error)
        async with client_of(fakes) as client:
            url = re.sub(r"{(job|consent|revocation)_id}", known, path)
            answer = await client.request(method, url, **sent)
        if method == "head":
            assert answer.status_code == status
        else:
            check(answer, method, path, status)


def test_openapi_errors_are_all_tested() -> None:
    tried = {(method, id(described(method, path)), status) for method, path, _, status in (*ERRORS, *OPENAI_ERRORS)}
    tried |= {(method, id(described(method, path)), 403) for method, path, _ in CONSENT_ERRORS}
    described_errors = {
        (method, id(operation), int(status))
        for methods in DESCRIPTION["paths"].values()
        for method, operation in methods.items()
        for status in operation["responses"]
        if 400 <= int(status) < 500 and method != "head"
    }
    # Only if the worker takes longer than the retention of previews.
    outrun = {("post", id(described("post", path)), 410) for path in ("/preview-from-voice", "/v1/audio/speech")}
    # Only with a response limit that other routes would exceed too.
    large = {("get", id(described("get", path)), 413) for path in ("/voices/taken/export", "/previews/nobody.mp3")}
    # Only if another client cancels the job meanwhile.
    conflicts = {("post", id(described("post", path)), 409) for path in ("/preview", "/preview-from-voice")}
    # Only if a request with the same Idempotency-Key is in progress.
    conflicts |= {("post", id(described("post", path)), 409) for path in ("/uploads", "/upload")}
    openai = ("/v1/audio/speech", "/v1/audio/voice_consents", "/v1/audio/voice_consents/CONSENT")
    conflicts |= {("post", id(described("post", path)), 409) for path in openai}
    # Only at the maximum number of open connections, or of files that are encoded.
    many = {("get", id(described("get", path)), 429) for path in ("/jobs/nobody/events", "/previews/nobody.mp3")}
    assert described_errors - outrun - large - conflicts - many <= tried
