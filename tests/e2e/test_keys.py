"""`make keys` finds the store of a running service, and reports an error if there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.access.key_format import parse
from tests.e2e.client import Client
from tests.e2e.stack import ROOT, running, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("keys")]

SCRIPT = ROOT / "localstack" / "keys.py"


def keys(data: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, "DATA_DIR": str(data), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_keys_survive_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, {}) as stack:
        made = keys(data, "make", "--owner", "alice", "--name", "my laptop")
        assert made.returncode == 0, made.stderr
        presented = parse(made.stdout.strip())
        assert presented is not None
        stack.interrupt()
        refused = keys(data, "list")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "make run" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        stack.start()
        listed = keys(data, "list", BUCKET="some-other-bucket")
        assert listed.stdout.splitlines()[1].startswith(f"{presented.key_id}  alice  my laptop"), listed


def test_keys_without_running_service(tmp_path: Path) -> None:
    refused = keys(tmp_path / "data", "make", "--owner", "alice")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"Nothing runs with DATA_DIR {tmp_path / 'data'}" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_log_contains_no_key_or_ticket(tmp_path: Path) -> None:
    with running(tmp_path / "data", {"AUTH": "keys", "LOG_LEVEL": "DEBUG"}) as stack:
        key = stack.make_key("alice")
        client = Client(stack.url, stack.socket_url, key)
        ticket = client.request("POST", "/ws-tickets").json()["ticket"]
        page = Client(stack.url, f"{stack.socket_url}?ticket={ticket}")
        with page.socket() as socket:
            assert socket.ask("save_voice", name="Nova")["data"]["field"] == "session_id"
        assert page.get("/voices").status_code == 401
        assert client.get("/voices").status_code == 200
        presented = parse(key)
        assert presented is not None
        wait_until(lambda: presented.key_id in stack.logged(), "the key's id is logged")
        assert key.rpartition("_")[2] not in stack.logged()
        assert ticket.partition(".")[2] not in stack.logged()


def test_start_message_explains_keys(tmp_path: Path) -> None:
    with running(tmp_path / "data", {"HOST": "0.0.0.0"}) as stack:
        assert "make -s keys ARGS='make --owner me'" in stack.logged()
        assert 'curl --fail-with-body -sS -H "Authorization: Bearer $KEY"' in stack.logged()
        assert Client(stack.url, stack.socket_url).get("/voices").status_code == 401
