"""A backup of a running service, restored into another data folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.stack import ROOT, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("backup")]


# Both runs use the same bucket name.
NAMES = {"BUCKET": "voices-of-both"}


def backup(what: str, data: Path, file: Path) -> None:
    command = [sys.executable, str(ROOT / "localstack" / "backup.py"), what, str(file)]
    subprocess.run(command, env={"DATA_DIR": str(data), "PATH": ""}, check=True, timeout=60)


def test_restored_voice_synthesizes(tmp_path: Path) -> None:
    data, other, file = tmp_path / "data", tmp_path / "elsewhere", tmp_path / "data.tar.gz"
    with running(data, NAMES) as stack:
        client = Client(stack.url, stack.socket_url)
        session_id = client.preview(150, "Hello.").headers["x-session-id"]
        saved = client.request("POST", "/voices", json={"session_id": session_id, "name": "Nova"})
        assert saved.status_code == 201
        voice_id = saved.json()["voice_id"]
        assert client.speak(voice_id, "Hello.").status_code == 200
        backup("save", data, file)
    backup("restore", other, file)
    with running(other, NAMES) as stack:
        client = Client(stack.url, stack.socket_url)
        assert client.speak(voice_id, "Hello again.").status_code == 200
        assert client.request("DELETE", f"/voices/{voice_id}").status_code == 204
