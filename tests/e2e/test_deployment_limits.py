"""Limits and authentication of the deployed service."""

import io

import httpx
import pytest
import soundfile as sf
from websockets.exceptions import InvalidStatus

from tests.e2e.client import Client, recording
from tests.e2e.deployment import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployed")]


@pytest.fixture
def client(deployment: Deployment) -> Client:
    """A client of the deployment."""
    return Client(deployment.url, deployment.socket_url, deployment.key)


def test_large_preview_redirects_to_storage(client: Client) -> None:
    answer = client.preview(110, "A sentence that goes on for quite some time. " * 90)
    assert answer.status_code == 303
    assert answer.headers["x-job-id"]
    audio = httpx.get(answer.headers["location"])
    assert (audio.status_code, audio.headers["content-type"]) == (200, "audio/wav")
    assert len(audio.content) > 4_500_000
    assert sf.info(io.BytesIO(audio.content)).samplerate == 24_000


def test_large_recording_error_names_uploads(client: Client) -> None:
    answer = client.speak_as(recording(110, seconds=59, rate=48_000), "Hello.")
    assert answer.status_code == 413, answer.text
    assert "POST /uploads" in answer.json()["error"]


def test_key_is_required(deployment: Deployment) -> None:
    anonymous = Client(deployment.url, deployment.socket_url)
    assert anonymous.get("/voices").status_code == 401
    assert anonymous.get("/health").status_code == 200
    with pytest.raises(InvalidStatus), anonymous.socket():
        pass


def test_ticket_opens_one_socket(client: Client, deployment: Deployment) -> None:
    ticket = client.request("POST", "/ws-tickets").json()["ticket"]
    page = Client(deployment.url, f"{deployment.socket_url}?ticket={ticket}")
    with page.socket() as socket:
        assert socket.ask("save_voice", name="Nova")["data"]["field"] == "session_id"
    with pytest.raises(InvalidStatus), page.socket():
        pass
