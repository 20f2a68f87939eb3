"""HTTP events of API Gateway, as recorded, through the very application: bytes in, bytes out."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from functions.aws.http_adapter import answering
from functions.aws.process import Event
from pipeline.audio.reference_audio import encode_wav
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Request
from pipeline.domain import jobs
from pipeline.settings import Settings
from tests.support.aws_events import Context, process_of, recorded
from tests.support.fake_service import FakeService, reference_recording
from tests.support.fakes.queue import FakeQueue

BOUNDARY = "3f1a"


class Api:
    """A function's process, and the fakes behind it."""

    def __init__(self, fakes: FakeService, run: Callable[..., Any], handler: Callable[[Event, Any], Any]) -> None:
        self.fakes = fakes
        self.run = run
        self._handler = handler

    def __call__(self, event: Event) -> Event:
        answer: Event = self._handler(event, Context())
        json.dumps(answer)  # as Lambda does
        return answer


def api_of(settings: Settings | None = None) -> Iterator[Api]:
    fakes = FakeService(settings)
    with process_of(fakes.resources) as process:
        yield Api(fakes, process.run, answering(process))


@pytest.fixture
def api() -> Iterator[Api]:
    yield from api_of()


@pytest.fixture
def small() -> Iterator[Api]:
    """One whose answers hold three bytes of audio."""
    yield from api_of(Settings(answer_max_megabytes=3 / 1024 / 1024))


def form(**fields: str | bytes) -> str:
    """Write a multipart body the way it comes: in base64."""
    body = b""
    for name, value in fields.items():
        file = b'; filename="a.wav"\r\nContent-Type: audio/wav' if isinstance(value, bytes) else b""
        content = value if isinstance(value, bytes) else value.encode()
        body += b'--%s\r\nContent-Disposition: form-data; name="%s"' % (BOUNDARY.encode(), name.encode())
        body += file + b"\r\n\r\n" + content + b"\r\n"
    return base64.b64encode(body + b"--%s--\r\n" % BOUNDARY.encode()).decode()


def posted(api: Api, prefer: str = "respond-async", **fields: str | bytes) -> Event:
    body = form(**fields)
    said = {
        "BOUNDARY": BOUNDARY,
        "PREFER": prefer,
        "BODY": body,
        "CONTENT_LENGTH": str(len(base64.b64decode(body))),
    }
    return api(recorded("http_post_multipart", **said))


async def spoken_job(fakes: FakeService) -> Request:
    request = await fakes.job()
    await fakes.succeed(request)
    return request


def test_binary_upload_event(api: Api) -> None:
    answer = posted(api, audio=encode_wav(reference_recording()), transcription="Grüße.", response_text="Hello.")
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (202, False)
    view = json.loads(answer["body"])
    keys = layout.session(view["session_id"])
    assert api.fakes.bucket.objects[keys.audio].body == encode_wav(reference_recording())
    assert api.fakes.bucket.objects[keys.transcription].body.decode() == "Grüße."
    assert answer["headers"]["location"] == f"/jobs/{view['job_id']}"


def test_binary_response_event(api: Api) -> None:
    request = api.run(spoken_job(api.fakes))
    answer = api(recorded("http_get_wav", JOB_ID=request.job_id, RANGE="bytes=0-"))
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (206, True)
    assert base64.b64decode(answer["body"]) == b"RIFF"
    assert answer["headers"]["content-type"] == "audio/wav"
    part = api(recorded("http_get_wav", JOB_ID=request.job_id, RANGE="bytes=1-2"))
    assert (part["statusCode"], base64.b64decode(part["body"])) == (206, b"IF")


def test_large_wav_is_redirected(small: Api) -> None:
    request = small.run(spoken_job(small.fakes))
    answer = small(recorded("http_get_wav", JOB_ID=request.job_id, RANGE="bytes=0-"))
    assert answer["statusCode"] == 303
    assert layout.preview(request.job_id) in answer["headers"]["location"]
    assert not answer.get("body")


def test_json_event(api: Api) -> None:
    session_id = api.run(api.fakes.session())
    body = json.dumps({"session_id": session_id, "name": "Müller"}, ensure_ascii=False)
    answer = api(recorded("http_post_json", BODY=body, CONTENT_LENGTH=str(len(body.encode()))))
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (201, False)
    assert json.loads(answer["body"])["name"] == "Müller"


def at(path: str, event: Event) -> Event:
    """Return the event of a request to another path."""
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    return event | {"rawQueryString": ""}


def test_openai_event(api: Api) -> None:
    models = api(at("/v1/models", recorded("http_get")))
    assert (models["statusCode"], json.loads(models["body"])["object"]) == (200, "list")
    body = json.dumps({"model": "tts-1", "voice": "nobody", "input": "Hello."})
    answer = api(at("/v1/audio/speech", recorded("http_post_json", BODY=body, CONTENT_LENGTH=str(len(body)))))
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["param"]) == (404, "voice")
    assert answer["headers"]["x-request-id"]


def test_query_is_not_decoded_twice(api: Api) -> None:
    answer = api(recorded("http_get"))
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"voices": []})
    too_many = recorded("http_get") | {"rawQueryString": "limit=0"}
    problem = api(too_many)
    assert (problem["statusCode"], problem["isBase64Encoded"]) == (422, False)
    assert problem["headers"]["content-type"] == "application/problem+json"
    assert json.loads(problem["body"])["errors"][0]["field"] == "limit"


def test_slow_preview_returns_202(api: Api) -> None:
    session_id = api.run(api.fakes.session())
    answer = posted(api, prefer="wait=0", session_id=session_id, response_text="Hello.")
    assert answer["statusCode"] == 202
    assert (json.loads(answer["body"])["ahead"], answer["headers"]["retry-after"]) == (0, "1")


def test_preview_waits_by_polling(api: Api) -> None:
    class Spoken(FakeQueue):
        """A queue whose every job is done as soon as it is sent."""

        async def send(self, body: str, *, group: str | None = None) -> None:
            ticket = parse_queue_message(body)
            assert ticket is not None
            request = await jobs.read_request(api.fakes.resources, ticket.job_id)
            assert request is not None
            assert request.subscriber is None
            await api.fakes.succeed(request)

    session_id = api.run(api.fakes.session())
    object.__setattr__(api.fakes.resources, "synthesis", Spoken(api.fakes.time))
    answer = posted(api, prefer="wait=20", session_id=session_id, response_text="Hello.")
    assert (answer["statusCode"], base64.b64decode(answer["body"])) == (200, b"RIFF")


def test_correlation_id_defaults_to_request_id(api: Api) -> None:
    event = recorded("http_get")
    assert api(event)["headers"]["x-correlation-id"] == event["requestContext"]["requestId"]
    event["headers"]["x-correlation-id"] = "mine"
    assert api(event)["headers"]["x-correlation-id"] == "mine"
    del event["headers"]["x-correlation-id"]
    assert api(event)["headers"]["x-correlation-id"] == event["requestContext"]["requestId"]


def test_log_context_ends_with_event(api: Api) -> None:
    api(recorded("http_get"))
    assert structlog.contextvars.get_contextvars() == {}


def test_storage_unavailable_returns_503(api: Api) -> None:
    api.fakes.voices.switch.is_up = False
    answer = api(recorded("http_get"))
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, "unavailable")
