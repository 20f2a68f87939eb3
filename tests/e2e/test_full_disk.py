"""The service on a disk without space: nothing that was acknowledged is lost, and it recovers by itself."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Stack, wait_until
from tests.support.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.slow

NAMES = ("saved", "other")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "4m") as disk:
        if disk is None:
            pytest.skip("tmpfs can't be mounted here")
        yield disk


@pytest.fixture
def stack(disk: SmallDisk, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(disk.folder / "data", {"AUTH": "keys"})
    stack.log = tmp_path / "stack.log"
    try:
        stack.start()
        yield stack
    finally:
        stack.stop_all()


def preview(client: httpx.Client, disk: SmallDisk) -> httpx.Response:
    form = {"transcription": "Hello, this is a sample of a voice.", "response_text": "Good to hear you."}
    wav = (disk.folder / "data" / "sample.wav").read_bytes()
    return client.post("/preview", data=form, files={"audio": ("a.wav", wav)})


def voices(client: httpx.Client) -> list[str]:
    return [voice["voice_id"] for voice in client.get("/voices").json()["voices"]]


def test_full_disk(disk: SmallDisk, stack: Stack) -> None:
    key = stack.make_key("owner", "admin", "preview", "voices:write")
    with httpx.Client(base_url=stack.url, timeout=40, headers={"Authorization": f"Bearer {key}"}) as client:
        session = preview(client, disk).raise_for_status().headers["x-session-id"]
        for name in NAMES:
            client.post("/voices", json={"session_id": session, "name": name}).raise_for_status()

        disk.fill()
        refused = client.post("/voices", json={"session_id": session, "name": "refused"})
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        assert preview(client, disk).status_code == 507
        speech = {"model": "tts-1", "voice": "saved", "input": "Hello."}
        assert client.post("/v1/audio/speech", json=speech).json()["error"]["code"] == "storage_full"
        assert client.get("/health").status_code == 507
        assert client.get("/status").json()["full"] == ["storage", "voice storage"]
        assert sorted(voices(client)) == sorted(NAMES)
        assert client.get("/voices/saved/sample").status_code == 200
        assert not {name for name in disk.files() if "refused" in name or name.endswith(".tmp")}
        assert client.delete("/voices/other").status_code == 204

        stack.kill_everything()
        stack.start()
        assert voices(client) == ["saved"]
        assert client.get("/health").status_code == 507

        disk.free()
        wait_until(stack.healthy, "healthy again")
        session = preview(client, disk).raise_for_status().headers["x-session-id"]
        client.post("/voices", json={"session_id": session, "name": "refused"}).raise_for_status()
        assert sorted(voices(client)) == ["refused", "saved"]


def test_job_waits_for_space(disk: SmallDisk, stack: Stack) -> None:
    """A worker that can't store its result returns the job; it ends when there is space again."""
    key = stack.make_key("owner", "preview")
    with httpx.Client(base_url=stack.url, timeout=40, headers={"Authorization": f"Bearer {key}"}) as client:
        session = preview(client, disk).raise_for_status().headers["x-session-id"]
        stack.process.suspend()  # it starts a worker again when the disk is full
        stack.kill("gpu_runner")
        form = {"session_id": session, "response_text": "Good to hear you, whenever that may be."}
        job = client.post("/preview", data=form, headers={"Prefer": "respond-async"})
        assert job.status_code == 202, job.text
        disk.fill()
        stack.process.resume()
        wait_until(lambda: "no space left" in stack.logged(), "the worker failing")
        disk.free()
        url = job.headers["location"]
        wait_until(lambda: client.get(url).json()["status"] == "succeeded", "the job succeeding", 60)
