"""Saved voices and accepted jobs survive the death of any process."""

from collections.abc import Iterator

import pytest

from tests.e2e.client import Client, pitch_of, recording
from tests.e2e.stack import Stack, running, wait_until
from tests.e2e.test_webhooks import receiver

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("survival")]

# Long enough that a job is in progress when a process is killed.
SLOW = {"MOCK_DELAY_SECONDS": "1.5", "UVICORN_WORKERS": "2"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with a slow engine.  The tests kill its processes one after the other."""
    with running(tmp_path_factory.mktemp("survival") / "data", SLOW) as stack:
        yield stack


def _succeeds(client: Client, job_id: str) -> bool:
    answer = client.get(f"/jobs/{job_id}")
    return answer.status_code == 200 and answer.json()["status"] == "succeeded"


def _save(client: Client, name: str) -> str:
    session_id = client.preview(100, "Keep me.").headers["x-session-id"]
    with client.socket() as socket:
        saved = socket.ask("save_voice", name=name, session_id=session_id)
    assert saved["type"] == "voice_saved", saved
    return session_id


def _nothing_is_lost(client: Client, voice_id: str, session_id: str, jobs: list[str]) -> None:
    for job_id in jobs:
        wait_until(lambda job_id=job_id: _succeeds(client, job_id), f"job {job_id} succeeded", 60)  # type: ignore[misc]
    assert voice_id in [voice["voice_id"] for voice in client.get("/voices").json()["voices"]]
    spoken = client.speak(voice_id, "Still here.")
    assert pitch_of(spoken.content) == pytest.approx(100, rel=0.05)
    with client.socket() as socket:
        assert socket.ask("generate_preview", session_id=session_id, text="So am I.")["type"] == "tts_complete"


def test_data_survives_interrupt_and_kill(stack: Stack) -> None:
    client = Client(stack.url, stack.socket_url)
    session_id = _save(client, "Keeper")
    first = client.preview(150, "Not done yet.", Prefer="respond-async").headers["x-job-id"]
    stack.interrupt()
    stack.start()
    _nothing_is_lost(client, "keeper", session_id, [first])

    second = client.preview(150, "Not done yet.", Prefer="respond-async").headers["x-job-id"]
    stack.kill_everything()
    stack.start()
    _nothing_is_lost(client, "keeper", session_id, [first, second])

    stack.kill_supervisor()
    stack.start()
    _nothing_is_lost(client, "keeper", session_id, [first, second])


@pytest.mark.parametrize("victim", ["functions", "gpu_runner", "pump", "schedule", "embedded"])
def test_killed_process_loses_nothing(stack: Stack, victim: str) -> None:
    client = Client(stack.url, stack.socket_url)
    session_id = _save(client, f"Keeper {victim}")
    restarts = stack.logged().count("restarting it")
    with client.socket() as socket:
        accepted = client.preview(150, "Under way.", Prefer="respond-async").headers["x-job-id"]
        socket.send("generate_preview", session_id=session_id, text="Under way too.", progress=True)
        assert socket.receive()["type"] == "progress"
        # The response to the next message shows that the job was accepted.
        assert socket.ask("subscribe", job_id="none")["data"]["code"] == "not_found"
        killed = stack.kill(victim)
        wait_until(lambda: not killed.is_running(), "dead")
        if victim != "functions":
            assert socket.receive(60)["type"] == "tts_complete"
    wait_until(stack.healthy, "healthy again", 60)
    _nothing_is_lost(client, f"keeper-{victim.replace('_', '-')}", session_id, [accepted])
    wait_until(lambda: stack.logged().count("restarting it") > restarts, "the restart in the log")


def test_webhook_retries_survive_kill(stack: Stack) -> None:
    client = Client(stack.url, stack.socket_url)
    with receiver(stack.run_keys("webhook-secret"), [500, 204]) as (url, received):
        form = {"response_text": "Hello.", "webhook_url": url}
        accepted = client.request(
            "POST", "/preview", data=form, files={"audio": recording(120)}, headers={"Prefer": "respond-async"}
        )
        assert accepted.status_code == 202, accepted.text
        wait_until(lambda: len(received) == 1, "refused", 60)
        stack.kill_everything()
        stack.start()
        # The sweep finds the message missing at most two minutes after the retry was due.
        wait_until(lambda: len(received) == 2, "sent again", 180)
    assert received[0] == received[1]
    assert received[1]["data"]["job_id"] == accepted.json()["job_id"]
