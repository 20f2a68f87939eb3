"""The lifecycle of a voice over HTTP and WebSocket, with two API processes."""

import asyncio
import io
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import soundfile as sf
from websockets.asyncio.client import connect

from tests.e2e.client import Client, pitch_of, recording
from tests.e2e.deployment import Deployment
from tests.e2e.stack import ROOT, Stack, wait_until

# One pytest-xdist worker, so that the tests share a running service.
pytestmark = pytest.mark.xdist_group("deployed")


def test_studio_assets_are_served(client: Client) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
    kinds[".webmanifest"] = "application/manifest+json"
    for path in re.findall(r'(?:src|href)="(studio/[^"]+)"', page.text):
        answer = client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith(kinds[Path(path).suffix])
        file = ROOT / "functions" / "studio" / path.split("/", 2)[2]
        if file.name == "style.css":  # made of several files
            assert (file.with_suffix("") / "takes.css").read_bytes().strip() in answer.content
        else:
            assert answer.content == file.read_bytes()


def test_preview_save_and_reuse_voice(client: Client) -> None:
    first = client.preview(110, "Hello there, this is me.")
    assert first.status_code == 200, first.text
    assert first.headers["content-type"] == "audio/wav"
    assert "preview.wav" in first.headers["content-disposition"]
    assert sf.info(io.BytesIO(first.content)).samplerate == 24_000
    assert pitch_of(first.content) == pytest.approx(110, rel=0.05)

    session_id = first.headers["x-session-id"]
    with client.socket() as socket:
        done = socket.ask("generate_preview", session_id=session_id, text="Once more.", request_id="r1")
        assert done["type"] == "tts_complete", done
        assert (done["data"]["request_id"], done["data"]["temporary"]) == ("r1", True)
        audio = client.get(done["data"]["audio_url"])
        assert pitch_of(audio.content) == pytest.approx(110, rel=0.05)
        saved = socket.ask("save_voice", name="Grandfather Zoë", description="warm")
        assert saved["type"] == "voice_saved", saved
        assert saved["data"]["voice_id"] == "grandfather-zoe"

    again = client.speak("grandfather-zoe", "Good morning.")
    assert again.status_code == 200, again.text
    assert pitch_of(again.content) == pytest.approx(110, rel=0.05)
    voice = client.get("/voices/grandfather-zoe").json()
    assert (voice["name"], voice["description"], voice["model"]) == ("Grandfather Zoë", "warm", voice["model"])
    assert voice["model"]
    assert client.request("DELETE", "/voices/grandfather-zoe").status_code == 204
    assert client.speak("grandfather-zoe", "Good morning.").status_code == 404


def test_preview_pitch_and_duration(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        low, high, long = pool.map(
            lambda given: client.preview(*given).content,
            [(90.0, "Short text."), (240.0, "Short text."), (90.0, "A text that is a good deal longer. " * 4)],
        )
    assert pitch_of(low) == pytest.approx(90, rel=0.05)
    assert pitch_of(high) == pytest.approx(240, rel=0.05)
    assert sf.info(io.BytesIO(long)).duration > 2 * sf.info(io.BytesIO(low)).duration


def test_preview_range_requests(client: Client) -> None:
    first = client.preview(120, "Range over me.")
    path = first.headers["content-location"]
    whole = client.get(path)
    assert whole.content == first.content
    part = client.get(path, Range="bytes=0-43")
    assert (part.status_code, part.content) == (206, whole.content[:44])
    assert client.get(path, **{"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = client.request("HEAD", path)
    assert (head.status_code, int(head.headers["content-length"])) == (200, len(whole.content))


def test_async_preview_with_subscribe(client: Client) -> None:
    accepted = client.preview(120, "Later.", Prefer="respond-async")
    assert accepted.status_code == 202
    with client.socket() as socket:
        message = socket.ask("subscribe", job_id=accepted.headers["x-job-id"])
    assert message["type"] == "tts_complete", message
    job = client.get(accepted.headers["location"]).json()
    assert job["status"] == "succeeded"
    assert client.get(job["audio_url"]).status_code == 200


def test_presigned_upload_checked_on_first_use(client: Client) -> None:
    def upload(body: bytes) -> str:
        ticket = client.request("POST", "/uploads", json={"transcription": "What is said."}).json()
        answer = httpx.post(ticket["url"], data=ticket["fields"], files={"file": body})
        assert answer.status_code in {200, 204}, answer.text
        return str(ticket["session_id"])

    with client.socket() as socket:
        message = socket.ask("generate_preview", session_id=upload(recording(150)), text="From the storage.")
        assert message["type"] == "tts_complete", message
        assert pitch_of(client.get(message["data"]["audio_url"]).content) == pytest.approx(150, rel=0.05)
        refused = socket.ask("generate_preview", session_id=upload(b"not audio at all"), text="Hm.")
        assert (refused["type"], refused["data"]["code"]) == ("error", "invalid_audio")


async def test_concurrent_socket_requests(client: Client) -> None:
    """With several connections, both API processes have clients.  Each response has to reach its own client."""
    session_id = client.preview(130, "First.").headers["x-session-id"]

    async def talk(name: str) -> set[str]:
        async with connect(client.socket_url, additional_headers=client.headers) as socket:
            request_ids = {f"{name}-{n}" for n in range(5)}
            for request_id in sorted(request_ids):
                data = {"session_id": session_id, "text": f"This is {request_id}.", "request_id": request_id}
                await socket.send(json.dumps({"type": "generate_preview", "data": data}))
            answers = [json.loads(await asyncio.wait_for(socket.recv(), 60)) for _ in request_ids]
        assert {answer["type"] for answer in answers} == {"tts_complete"}
        assert {answer["data"]["request_id"] for answer in answers} == request_ids
        return {answer["data"]["job_id"] for answer in answers}

    jobs = await asyncio.gather(*(talk(f"client{n}") for n in range(6)))
    assert len(set.union(*jobs)) == 30


def test_invalid_messages_keep_connection(client: Client) -> None:
    with client.socket() as socket:
        nonsense: list[str | bytes] = ["{", "[]", "7", b"\x00\xff", json.dumps({"type": 3})]
        nonsense += [json.dumps({"type": "fly", "data": {}}), json.dumps({"type": "save_voice", "data": []})]
        for sent in nonsense:
            socket.connection.send(sent)
            assert socket.receive()["type"] == "error"
        assert socket.ask("save_voice", name="Nobody")["data"]["field"] == "session_id"


def test_http_correlation_id_reaches_worker(stack: Stack | Deployment, client: Client) -> None:
    answer = client.preview(140, "The secret word is aubergine.", **{"X-Correlation-Id": "trace-4711"})
    assert answer.headers["x-correlation-id"] == "trace-4711"
    # The log line may be written shortly after the response.
    wait_until(lambda: logging_of(stack, "trace-4711") >= {"api", "gpu_runner"}, "the log lines of both")
    assert "aubergine" not in stack.logged()


def test_socket_correlation_id_reaches_notify(stack: Stack | Deployment, client: Client) -> None:
    session_id = client.preview(140, "First.").headers["x-session-id"]
    with client.socket() as socket:
        message = socket.ask("generate_preview", session_id=session_id, text="Once more.")
    correlation_id = message["data"]["correlation_id"]
    wait_until(lambda: logging_of(stack, correlation_id) >= {"gpu_runner", stack.notifier}, "the log lines of both")


def logging_of(stack: Stack | Deployment, correlation_id: str) -> set[str]:
    """Return the services that logged a line with this id."""
    lines = [line for line in stack.logged().splitlines() if correlation_id in line]
    return {json.loads(line)["service"] for line in lines if line.startswith("{") and line.endswith("}")}


def test_reference_audio_formats(client: Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Recordings in several formats, from espeak-ng if it is installed."""
    try:
        speech = subprocess.run(
            ["espeak-ng", "--stdout", "The quick brown fox."], capture_output=True, check=True
        ).stdout
    except FileNotFoundError:
        speech = recording(118, rate=22_050)
    for body in (speech, _as(speech, "FLAC"), _as(speech, "OGG"), _as(speech, "MP3")):
        answer = client.speak_as(body, "Hello.")
        assert answer.status_code == 200, answer.text


def _as(wav: bytes, format_: str) -> bytes:
    samples, rate = sf.read(io.BytesIO(wav))
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=format_)
    return buffer.getvalue()
