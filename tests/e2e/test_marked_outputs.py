"""Every path by which audio leaves the service is listed here, and generated audio is marked.

The lists are compared with the routes, messages and formats in the code, so a new one fails until it is listed.
"""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest

from functions.local.server import local_app
from functions.websocket.server_messages import SERVER_MESSAGES
from pipeline.audio.output_formats import FORMATS, NAMES, FormatName
from pipeline.audio.reference_audio import Recording, decode_reference
from pipeline.marking import manifest
from pipeline.marking.watermark import detect
from pipeline.settings import Settings
from tests.e2e.client import Client, Message
from tests.e2e.stack import Stack, running, wait_until
from tests.e2e.test_webhooks import receiver
from tests.support.speech import voice_wav

TEXT = "We walked along the harbour in the morning, and the boats came in while we had bread with cheese."
RATE = 24_000


@dataclass(frozen=True, slots=True)
class Output:
    """Audio that a client has received."""

    name: str
    format: FormatName
    body: bytes
    is_file: bool = True
    """A complete file, not a stream of unknown length."""

    @property
    def recording(self) -> Recording:
        """The decoded audio."""
        if self.format == "pcm":
            return Recording(np.asarray(np.frombuffer(self.body, "<i2") / 32768, np.float32), RATE)
        return decode_reference(self.body, Settings())

    @property
    def may_have_manifest(self) -> bool:
        """Whether it is a file of a format with manifests."""
        return self.is_file and FORMATS[self.format].media_type in manifest.MEDIA_TYPES


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, with a saved voice and a preview."""

    client: Client
    stack: Stack
    voice_id: str
    job_id: str

    def form(self) -> dict[str, str]:
        """Return the form of a preview."""
        return {"voice_id": self.voice_id, "response_text": TEXT}

    def link(self, url: str) -> bytes:
        """Return the audio at a URL, a path of the API or a signed link."""
        answer = self.client.get(url) if url.startswith("/") else httpx.get(url, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.content


def posted(service: Service, path: str, **body: Any) -> Iterator[Output]:
    """Yield the audio of a generating route: complete and streamed, in each format."""
    for name in NAMES:
        for stream in (0, 1):
            answer = service.client.request("POST", f"{path}?format={name}&stream={stream}", **body)
            assert answer.status_code == 200, answer.text
            yield Output(f"{path} {name} {stream=}", name, answer.content, "content-length" in answer.headers)


def preview(service: Service) -> Iterator[Output]:
    files = {"audio": voice_wav(120.0, seconds=3)}
    yield from posted(service, "/preview", data={"response_text": TEXT}, files=files)


def preview_from_voice(service: Service) -> Iterator[Output]:
    yield from posted(service, "/preview-from-voice", data=service.form())


def stored_wav(service: Service) -> Iterator[Output]:
    path = f"/previews/{service.job_id}.wav"
    yield Output(path, "wav", service.link(path))
    yield from ranges(service, path, "wav")
    yield Output(f"{path} speed", "wav", service.link(f"{path}?speed=1.1"))
    signed = service.client.get(f"{path}?signed=true").headers["location"]
    yield Output(f"{path} signed", "wav", service.link(signed))


def other_formats(service: Service) -> Iterator[Output]:
    for name in NAMES:
        if name != "wav":
            path = f"/previews/{service.job_id}.{name}"
            yield Output(path, name, service.link(path))
            yield Output(f"{path} speed", name, service.link(f"{path}?speed=1.1"))
            yield from ranges(service, path, name)


def ranges(service: Service, path: str, name: FormatName) -> Iterator[Output]:
    parts = [service.client.get(path, Range=range_) for range_ in ("bytes=0-999", "bytes=1000-")]
    assert [part.status_code for part in parts] == [206, 206]
    yield Output(f"{path} ranges", name, b"".join(part.content for part in parts))


def signed_link(service: Service) -> Iterator[Output]:
    url = service.client.get(f"/jobs/{service.job_id}?signed=true").json()["signed_url"]
    assert "/signed/previews/" in url
    yield Output("signed link", "wav", service.link(url))


def job_view(service: Service) -> Iterator[Output]:
    url = service.client.get(f"/jobs/{service.job_id}").json()["audio_url"]
    yield Output("audio_url of the job", "wav", service.link(url))


def job_events(service: Service) -> Iterator[Output]:
    text = service.client.get(f"/jobs/{service.job_id}/events").text
    (completed,) = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")][-1:]
    yield Output("audio_url of the event", "wav", service.link(completed["data"]["audio_url"]))


def openai_speech(service: Service) -> Iterator[Output]:
    for name in NAMES:
        for kind in ("audio", "sse"):
            body = {"model": "tts-1", "voice": service.voice_id, "input": TEXT, "response_format": name}
            answer = service.client.request("POST", "/v1/audio/speech", json=body | {"stream_format": kind})
            assert answer.status_code == 200, answer.text
            audio = answer.content
            if kind == "sse":
                events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
                audio = b"".join(b64decode(event["audio"]) for event in events if "audio" in event)
            yield Output(
                f"speech {name} {kind}", name, audio, kind == "audio" and "content-length" in answer.headers
            )


def websocket(service: Service) -> Iterator[Output]:
    with service.client.socket() as socket:
        socket.send("generate_preview", voice_id=service.voice_id, text=TEXT, stream=True, signed=True)
        messages: list[Message] = [socket.receive()]
        while messages[-1]["type"] != "tts_complete":
            messages.append(socket.receive())
    completed = messages[-1]["data"]
    pieces = [b64decode(message["data"]["audio"]) for message in messages if message["type"] == "tts_audio"]
    yield Output("socket stream", "pcm", b"".join(pieces), is_file=False)
    yield Output("audio_url of the socket", "wav", service.link(completed["audio_url"]))
    yield Output("signed link of the socket", "wav", service.link(completed["signed_url"]))


OUTPUTS: dict[str, Callable[[Service], Iterator[Output]]] = {
    "POST /preview": preview,
    "POST /preview-from-voice": preview_from_voice,
    "GET /previews/{job_id}.wav": stored_wav,
    "GET /previews/{job_id}.{extension}": other_formats,
    "GET /signed/previews/{job_id}.wav": signed_link,
    "GET /jobs/{job_id}": job_view,
    "GET /jobs/{job_id}/events": job_events,
    "POST /v1/audio/speech": openai_speech,
    "WS /ws": websocket,
}
RECORDINGS_OF_PEOPLE = {
    "GET /voices/{voice_id}/sample": "the recording of a voice",
    "GET /voices/{voice_id}/export": "the recording and the consent of a voice",
    "GET /consents/{consent_id}/recording": "the recording of a consent",
}
WITHOUT_AUDIO = {
    "HEAD /previews/{job_id}.wav",
    "DELETE /jobs/{job_id}",
    "GET /voices",
    "POST /voices",
    "GET /voices/{voice_id}",
    "PATCH /voices/{voice_id}",
    "DELETE /voices/{voice_id}",
    "POST /voices/import",
    "POST /uploads",
    "POST /upload",
    "POST /signed/uploads/{session_id}",
    "POST /verify",
    "POST /references/check",
    "POST /ws-tickets",
    "GET /ws",
    "GET /health",
    "GET /status",
    "GET /metrics",
    "GET /audit",
    "GET /disclaimer",
    "PUT /disclaimer",
    "GET /revocations/{revocation_id}",
    "PUT /voices/{voice_id}/consent",
    "GET /consents",
    "POST /consents",
    "GET /consents/{consent_id}",
    "POST /consents/{consent_id}/recording",
    "POST /consents/{consent_id}/review",
    "GET /consents/{consent_id}/receipt",
    "GET /consents/{consent_id}/revocation",
    "POST /consents/{consent_id}/revocation",
    "GET /signing-key",
    "GET /v1/models",
    "GET /v1/models/{model:path}",
    "GET /v1/test",
    "GET /v1/audio/models",
    "GET /v1/audio/voices",
    "POST /v1/audio/voices",
    "GET /v1/audio/voices/{voice_id}",
    "DELETE /v1/audio/voices/{voice_id}",
    "GET /v1/audio/voice_consents",
    "POST /v1/audio/voice_consents",
    "GET /v1/audio/voice_consents/{consent_id}",
    "POST /v1/audio/voice_consents/{consent_id}",
    "DELETE /v1/audio/voice_consents/{consent_id}",
    "WS /{path:path}",  # rejects all others
}
PAGES = {"/", "/docs", "/docs/assets", "/openapi.json", "/asyncapi.json", "/studio/settings.json"}
PAGES |= {"/studio/{version}/{path:path}"}
MESSAGES_WITH_AUDIO = {"tts_audio", "tts_complete"}
MESSAGES_WITHOUT_AUDIO = {
    "embedding_complete",
    "error",
    "voice_saved",
    "reference_checked",
    "cancelled",
    "queued",
    "started",
    "generating",
}


def routes() -> set[str]:
    """Return the routes of the application, with all that can be switched on."""
    app = local_app(Settings(host="0.0.0.0", aws_endpoint_url="http://127.0.0.1:9"))
    found = {f"{method.upper()} {path}" for path, some in app.openapi()["paths"].items() for method in some}
    for route in app.routes:
        path, methods = getattr(route, "path", None), getattr(route, "methods", None)
        if path is not None and path not in PAGES:
            found |= {f"{method} {path}" for method in methods or ("WS",)}
    return {one for one in found if one.partition(" ")[2] not in PAGES}


def test_listed_routes_are_those_of_the_code() -> None:
    unique = {one.replace("{model}", "{model:path}") for one in routes()}
    assert unique == OUTPUTS.keys() | RECORDINGS_OF_PEOPLE.keys() | WITHOUT_AUDIO


def test_listed_messages_are_those_of_the_code() -> None:
    assert set(SERVER_MESSAGES) == MESSAGES_WITH_AUDIO | MESSAGES_WITHOUT_AUDIO
    fields = {
        name
        for _, model in SERVER_MESSAGES.values()
        for name in model.model_fields
        if "audio" in name or "url" in name
    }
    assert fields == {"audio", "audio_seconds", "audio_url", "signed_url"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with marks, keys, and links that it serves itself."""
    settings = {"TTS_BACKEND": "hibari", "MARK": "both", "MARK_REQUIRED": "on", "AUTH": "keys", "HOST": "0.0.0.0"}
    with running(tmp_path_factory.mktemp("marks") / "data", settings) as stack:
        client = Client(stack.url, stack.socket_url, stack.make_key("alice"))
        uploaded = client.request("POST", "/upload", files={"audio": voice_wav(120.0, seconds=3)})
        saved = client.request(
            "POST", "/voices", json={"session_id": uploaded.json()["session_id"], "name": "Nova"}
        )
        voice_id = saved.json()["voice_id"]
        job_id = client.speak(voice_id, TEXT).headers["x-job-id"]
        yield Service(client, stack, voice_id, job_id)


@pytest.mark.slow
@pytest.mark.xdist_group("marks")
@pytest.mark.parametrize("path", OUTPUTS)
def test_output_is_marked(service: Service, path: str) -> None:
    unmarked = []
    for output in OUTPUTS[path](service):
        recording = output.recording
        if not detect(recording.samples, recording.sample_rate).is_marked:
            unmarked.append(f"{output.name}: no watermark")
        if output.may_have_manifest:
            found = manifest.read(output.body, FORMATS[output.format].media_type)
            if found is None or not (found.is_valid and found.is_synthetic and found.origin):
                unmarked.append(f"{output.name}: no manifest")
    assert unmarked == []


@pytest.mark.slow
@pytest.mark.xdist_group("marks")
def test_link_in_webhook_is_marked(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"TTS_BACKEND": "hibari", "MARK": "both"}
    with running(tmp_path_factory.mktemp("webhook") / "data", settings) as stack:
        client = Client(stack.url, stack.socket_url)
        with receiver(stack.run_keys("webhook-secret"), [204]) as (url, received):
            form = {"response_text": TEXT, "webhook_url": url}
            client.request("POST", "/preview", data=form, files={"audio": voice_wav(120.0, seconds=3)})
            wait_until(lambda: len(received) == 1, "a delivery")
        body = client.get(received[0]["data"]["audio_url"]).content
    found = manifest.read(body, "audio/wav")
    assert found is not None
    assert found.is_valid
    recording = decode_reference(body, Settings())
    assert detect(recording.samples, recording.sample_rate).is_marked


@pytest.mark.slow
@pytest.mark.xdist_group("marks")
def test_recording_of_person_is_not_marked(service: Service) -> None:
    body = service.client.get(f"/voices/{service.voice_id}/sample").content
    recording = decode_reference(body, Settings())
    assert not detect(recording.samples, recording.sample_rate).is_marked
    assert manifest.read(body, "audio/wav") is None
