"""What is saved stays, and what was accepted ends, whichever process dies."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.client import Client, pitch_of
from tests.e2e.stack import Stack, running, wait_until

# Long enough that a job is under way when something is killed.
SLOW = {"MOCK_DELAY_SECONDS": "1.5", "UVICORN_WORKERS": "2"}


@pytest.fixture
def slow(aws: Mapping[str, str], tmp_path: Path) -> Iterator[Stack]:
    """A service whose engine takes its time."""
    with running(tmp_path / "data", {**SLOW, **aws}) as stack:
        yield stack


@pytest.fixture
def slow_embedded(tmp_path: Path) -> Iterator[Stack]:
    """The same with the embedded AWS."""
    with running(tmp_path / "data", SLOW) as stack:
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


def _everything_is_there(client: Client, session_id: str, jobs: list[str]) -> None:
    for job_id in jobs:
        wait_until(lambda job_id=job_id: _succeeds(client, job_id), f"job {job_id} succeeded", 60)  # type: ignore[misc]
    assert [voice["voice_id"] for voice in client.get("/voices").json()["voices"]] == ["keeper"]
    spoken = client.speak("keeper", "Still here.")
    assert pitch_of(spoken.content) == pytest.approx(100, rel=0.05)
    with client.socket() as socket:
        assert socket.ask("generate_preview", session_id=session_id, text="So am I.")["type"] == "tts_complete"


def test_everything_is_there_after_ctrl_c_and_after_kill_9_of_all(slow: Stack) -> None:
    client = Client(slow.url, slow.socket_url)
    session_id = _save(client, "Keeper")
    first = client.preview(150, "Not done yet.", Prefer="respond-async").headers["x-job-id"]
    assert slow.interrupt() < 5
    slow.start()
    _everything_is_there(client, session_id, [first])

    second = client.preview(150, "Not done yet.", Prefer="respond-async").headers["x-job-id"]
    slow.kill_everything()
    slow.start()
    _everything_is_there(client, session_id, [first, second])

    slow.kill_supervisor()
    slow.start()
    _everything_is_there(client, session_id, [first, second])


@pytest.mark.parametrize("victim", ["functions", "gpu_runner", "pump", "schedule"])
def test_any_one_process_may_be_killed(slow: Stack, victim: str) -> None:
    _survives(slow, victim)


def test_the_storage_itself_may_be_killed(slow_embedded: Stack) -> None:
    _survives(slow_embedded, "embedded.server")


def _survives(stack: Stack, victim: str) -> None:
    client = Client(stack.url, stack.socket_url)
    session_id = _save(client, "Keeper")
    with client.socket() as socket:
        accepted = client.preview(150, "Under way.", Prefer="respond-async").headers["x-job-id"]
        socket.send("generate_preview", session_id=session_id, text="Under way too.", progress=True)
        assert socket.receive()["type"] == "progress"
        # Only what was accepted has to end: it was, once the message after it is answered.
        assert socket.ask("subscribe", job_id="none")["data"]["code"] == "not_found"
        killed = stack.kill(victim)
        wait_until(lambda: not killed.is_running(), "dead")
        if victim != "functions":
            assert socket.receive(60)["type"] == "tts_complete"
    wait_until(stack.healthy, "healthy again", 60)
    _everything_is_there(client, session_id, [accepted])
    assert "restarting it" in stack.logged()
