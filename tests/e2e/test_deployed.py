"""Client requests against the deployment given to `make test-deployed`, or the emulated one by default.

The tests do not check the sound of the audio, because a deployment uses the real model.
"""

import io
import os
import re
import time
from base64 import b64decode

import httpx
import pytest
import soundfile as sf

from tests.e2e.client import Client, Message, recording

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployed")]

# Scaling from zero GPU workers takes minutes.
LONGEST_WAIT_SECONDS = 900


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Client:
    """A client of the deployment in the environment variables, or of the emulated one."""
    if url := os.environ.get("HTTP_URL"):
        return Client(url, os.environ["WEBSOCKET_URL"], os.environ["KEY"])
    deployment = request.getfixturevalue("deployment")
    return Client(deployment.url, deployment.socket_url, deployment.key)


def audio_of(client: Client, answer: httpx.Response) -> bytes:
    """Return the audio of a preview.  Wait for the job and follow redirects."""
    began = time.monotonic()
    while answer.status_code == 202:
        assert time.monotonic() - began < LONGEST_WAIT_SECONDS, answer.text
        time.sleep(2)
        job = client.get(answer.headers["location"]).json()
        if job["status"] == "succeeded":
            answer = client.get(f"/previews/{job['job_id']}.wav")
        assert job["status"] != "failed", job
    if answer.status_code == 303:
        answer = httpx.get(answer.headers["location"], timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_health(client: Client) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200, answer.text


def test_preview_from_recording(client: Client) -> None:
    audio = audio_of(client, client.speak_as(recording(120, seconds=4), "Good to hear you."))
    samples, rate = sf.read(io.BytesIO(audio))
    assert rate == 24_000
    assert len(samples) > rate / 10


def test_preview_is_verified(client: Client) -> None:
    audio = audio_of(client, client.speak_as(recording(130, seconds=4), "This was generated."))
    answer = client.request("POST", "/verify", files={"audio": ("preview.wav", audio, "audio/wav")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["watermark"]["available"]  # whether it is detected in a tone of the mock engine varies
    assert answer.json()["manifest"]["valid"]
    assert answer.json()["is_marked"]


def test_saved_voice_lifecycle(client: Client) -> None:
    session_id = client.speak_as(recording(140, seconds=4), "Hello.").headers["x-session-id"]
    name = f"Try {time.time_ns()}"
    saved = client.request("POST", "/voices", json={"session_id": session_id, "name": name})
    assert saved.status_code == 201, saved.text
    voice_id = saved.json()["voice_id"]
    assert audio_of(client, client.speak(voice_id, "Hello again."))
    assert client.request("DELETE", f"/voices/{voice_id}").is_success
    assert voice_id not in client.get("/voices").text


def test_socket_receives_completion(client: Client) -> None:
    session_id = client.speak_as(recording(160, seconds=4), "Hello.").headers["x-session-id"]
    with client.socket() as socket:
        socket.send("generate_preview", session_id=session_id, text="Hello once more.")
        message = socket.receive(LONGEST_WAIT_SECONDS)
    assert message["type"] == "tts_complete", message
    assert client.get(message["data"]["audio_url"]).status_code in {200, 303}


def test_socket_receives_audio_chunks(client: Client) -> None:
    session_id = client.speak_as(recording(160, seconds=4), "Hello.").headers["x-session-id"]
    messages: list[Message] = []
    with client.socket() as socket:
        socket.send("generate_preview", session_id=session_id, text="Hello, and hello once more.", stream=True)
        while not messages or messages[-1]["type"] in {"progress", "tts_audio"}:
            messages.append(socket.receive(LONGEST_WAIT_SECONDS))
    assert messages[-1]["type"] == "tts_complete", messages[-1]
    assert messages[0]["data"]["status"] == "started"
    chunks = [message["data"] for message in messages if message["type"] == "tts_audio"]
    assert [chunk["seq"] for chunk in chunks] == list(range(len(chunks)))
    stored = audio_of(client, client.get(messages[-1]["data"]["audio_url"]))
    samples, rate = sf.read(io.BytesIO(stored), dtype="int16")
    assert rate == chunks[0]["sample_rate"]
    assert b"".join(b64decode(chunk["audio"]) for chunk in chunks) == samples.tobytes()


def test_job_events_polled_to_completion(client: Client) -> None:
    accepted = client.speak_as(recording(120, seconds=4), "Hello.", Prefer="respond-async")
    path, began = f"{accepted.headers['location']}/events", time.monotonic()
    answer, last = client.get(path), ""
    while "event: completed" not in answer.text:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream"
        assert "retry: " in answer.text
        assert time.monotonic() - began < LONGEST_WAIT_SECONDS
        last = "".join(re.findall("^id: (.+)$", answer.text, re.MULTILINE)[-1:]) or last
        time.sleep(1)
        answer = client.get(path, **{"Last-Event-ID": last})
    assert client.get(path, **{"Last-Event-ID": "end"}).status_code == 204
