"""Damaged requests and messages get a described response, and never an internal error."""

import asyncio
import json
import re
from copy import copy
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.access.access_control import AccessControl
from functions.http.application import SPEECH_PATH
from functions.previews.fair_turns import FairTurns
from functions.websocket.dispatch import Dispatcher
from functions.websocket.server_messages import SERVER_MESSAGES, Message
from pipeline.access.api_keys import ANONYMOUS
from pipeline.contract.records import ReplyTo
from tests.fuzz.mutations import TEXTS, changed_document, damaged, encoded_json, fuzzed
from tests.support.bundles import foreign_bundle
from tests.support.openapi import Prepared, check, client_of
from tests.support.speech import voice_wav

SPEECH = {"model": "tts-1", "voice": "taken", "input": "Hi.", "response_format": "wav", "speed": 1.0}
CONSENT = {"person": "Ann", "purposes": ["books"], "language": "en", "session_id": "SESSION"}
DOCUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/voices"): {"session_id": "SESSION", "name": "Nova", "description": "calm", "consent": "I agree."},
    ("patch", "/voices/taken"): {"name": "Nova", "description": "calm"},
    ("put", "/voices/taken/consent"): {"consent_id": "GIVEN"},
    ("post", "/uploads"): {"transcription": "What I say.", "content_type": "audio/wav"},
    ("put", "/disclaimer"): {"mode": "always", "text": "This voice is synthetic."},
    ("post", "/consents"): CONSENT,
    ("post", "/consents/GIVEN/review"): {"decision": "accepted", "note": "Heard."},
    ("post", SPEECH_PATH): SPEECH,
    ("post", "/v1/audio/voice_consents/CONSENT"): {"name": "Mine"},
}

WAV = voice_wav(120.0, seconds=1.2)
OPTIONS = {"language": "English", "seed": "7"}
Form = dict[str, str | bytes]
FORMS: dict[str, Form] = {
    "/preview": {"audio": WAV, "transcription": "What I say.", "response_text": "Hi.", **OPTIONS},
    "/preview-from-voice": {"voice_id": "taken", "response_text": "Hi.", **OPTIONS},
    "/upload": {"audio": WAV, "transcription": "What I say."},
    "/verify": {"audio": WAV},
    "/references/check": {"audio": WAV},
    "/voices/import": {"bundle": foreign_bundle(), "name": "Nova"},
    "/consents/ASKED/recording": {"recording": WAV},
    "/v1/audio/voices": {"audio_sample": WAV, "name": "Nova", "consent": "I agree."},
    "/v1/audio/voice_consents": {"recording": WAV, "name": "Mine", "language": "en-US"},
}
BOUNDARY = "limit"
JSON = {"Content-Type": "application/json"}
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def multipart(form: Form) -> bytes:
    parts = []
    for name, value in form.items():
        file = '; filename="a.wav"\r\nContent-Type: audio/wav' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else value.encode()
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@cache
def prepared() -> Prepared:
    made = Prepared()
    asyncio.run(made.fill())
    return made


@cache
def initial_objects() -> list[Any]:
    fakes = prepared().fakes
    return [copy(bucket.objects) for bucket in (fakes.bucket, fakes.voices, fakes.audit)]


def restored() -> Prepared:
    """Return a service in the same state for each example."""
    fakes = prepared().fakes
    for bucket, objects in zip((fakes.bucket, fakes.voices, fakes.audit), initial_objects(), strict=True):
        bucket.objects = copy(objects)
    return prepared()


async def call(
    service: Prepared, method: str, path: str, content: bytes, headers: dict[str, str]
) -> httpx.Response:
    async with client_of(service.fakes) as client:
        return await client.request(method, service.called(path), content=content, headers=headers)


def check_answered(method: str, path: str, content: bytes, headers: dict[str, str]) -> None:
    response = asyncio.run(call(restored(), method, path, content, {"Prefer": "wait=0", **headers}))
    is_late = (path, response.status_code) == (SPEECH_PATH, 503)  # there is no worker
    assert response.status_code < 500 or is_late, response.text
    check(response, method, path, response.status_code)


@pytest.mark.parametrize(("method", "path"), DOCUMENTS, ids=[path for _, path in DOCUMENTS])
def test_changed_json(method: str, path: str) -> None:
    document = prepared().called(DOCUMENTS[method, path])

    @fuzzed
    @given(changed_document(document).map(encoded_json) | damaged([encoded_json(document)]))
    def check_one(content: bytes) -> None:
        check_answered(method, path, content, JSON)

    check_one()


@pytest.mark.parametrize("path", FORMS)
def test_damaged_form(path: str) -> None:
    form = FORMS[path]
    small = {name: value[:400] if isinstance(value, bytes) else value for name, value in form.items()}

    @fuzzed
    @given(damaged([multipart(form), multipart(small)]), st.sampled_from((BOUNDARY, "limi", "limit-", '"limit"')))
    def check_one(content: bytes, boundary: str) -> None:
        content_type = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        check_answered("post", path, content, content_type)

    check_one()


TEXT_FIELDS = {
    path: [name for name, value in form.items() if isinstance(value, str)] for path, form in FORMS.items()
}


@pytest.mark.parametrize("path", [path for path, names in TEXT_FIELDS.items() if names])
def test_changed_fields(path: str) -> None:
    @fuzzed
    @given(st.sampled_from(TEXT_FIELDS[path]), TEXTS)
    def check_one(name: str, text: str) -> None:
        form = {**FORMS[path], name: text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")}
        check_answered("post", path, multipart(form), MULTIPART)

    check_one()


MESSAGES = [
    {"type": "generate_preview", "data": {"text": "Hi.", "session_id": "SESSION", "progress": True, **OPTIONS}},
    {"type": "generate_preview", "data": {"text": "Hi.", "voice_id": "taken", "stream": True, "format": "mp3"}},
    {"type": "save_voice", "data": {"name": "Nova", "description": "calm", "session_id": "SESSION"}},
    {"type": "subscribe", "data": {"job_id": "DONE", "signed": True, "speed": 1.5}, "request_id": "r"},
    {"type": "cancel", "data": {"job_id": "QUEUED", "request_id": "r"}},
]
HERE = ReplyTo(endpoint="http://127.0.0.1:9", connection_id="c1=")


async def send(service: Prepared, raw: str | bytes) -> list[Message]:
    """Send one message. Return the direct responses."""
    resources, responses = service.fakes.resources, list[Message]()
    dispatcher = Dispatcher(resources, AccessControl(resources), FairTurns(slots=1))

    async def record(message: Message) -> None:
        responses.append(message)

    response = await dispatcher.handle(HERE, ANONYMOUS, raw, record)
    return [*responses, *([response] if response else [])]


def check_message(raw: str | bytes) -> None:
    for response in asyncio.run(send(restored(), raw)):
        json.dumps(response).encode()
        kinds = [model for type_, model in SERVER_MESSAGES.values() if type_ == response["type"]]
        assert any(model.model_validate(response["data"]) for model in kinds)
        assert response["data"].get("code") not in {"internal_error", "unavailable", "misconfigured"}, response


@fuzzed
@given(st.sampled_from(MESSAGES).map(lambda message: prepared().called(message)).flatmap(changed_document))
def test_changed_message(message: Any) -> None:
    check_message(json.dumps(message))


@fuzzed
@given(damaged([encoded_json(message) for message in MESSAGES]), st.booleans())
def test_damaged_message(raw: bytes, is_binary: bool) -> None:
    check_message(raw if is_binary else raw.decode("utf-8", "replace"))


HEADERS = {
    "Prefer": "respond-async, wait=5; return=representation",
    "Idempotency-Key": '"key"',
    "Accept": "audio/mpeg;q=0.5, audio/wav",
    "Range": "bytes=0-1,5-",
    "If-Range": '"etag"',
    "If-None-Match": 'W/"etag", *',
    "Last-Event-ID": "end",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "X-Correlation-Id": "corr-1",
    "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
}
READS = (
    "/previews/DONE.wav",
    "/previews/DONE.mp3",
    "/voices/taken/sample",
    "/jobs/DONE",
    "/jobs/DONE/events",
    "/voices",
)
_NOT_IN_HEADERS = re.compile(rb"[\x00\r\n]")


@fuzzed
@given(st.sampled_from(sorted(HEADERS)), st.data())
def test_damaged_header(name: str, data: st.DataObject) -> None:
    value = _NOT_IN_HEADERS.sub(b"", data.draw(damaged([HEADERS[name].encode()]))).strip()
    path = data.draw(st.sampled_from((*READS, "/preview-from-voice")))
    method = "post" if path == "/preview-from-voice" else "get"
    content = b"voice_id=taken&response_text=Hi." if method == "post" else b""
    headers: Any = {b"Content-Type": b"application/x-www-form-urlencoded", name.encode(): value}
    response = asyncio.run(call(restored(), method, path, content, headers))
    assert response.status_code < 500, response.text


QUERIES = ("?limit=1&after=taken", "?signed=1&format=mp3&speed=1.5", "?stream=1", "?take=1&expires=1&signature=x")


@fuzzed
@given(st.sampled_from(READS), damaged([query.encode() for query in QUERIES]))
def test_damaged_query(path: str, query: bytes) -> None:
    quoted = re.sub(rb"[^!$-;=?-Z_a-z~]", lambda match: b"%%%02X" % match[0][0], query).decode()
    response = asyncio.run(call(restored(), "get", f"{path}?{quoted.lstrip('?')}", b"", {}))
    assert response.status_code < 500, response.text
