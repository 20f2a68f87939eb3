"""`make keys` finds the store of what runs, and says so when nothing does."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.keys import parse
from tests.e2e.stack import ROOT, running

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


def test_keys_of_what_runs_are_there_at_the_next_start(tmp_path: Path) -> None:
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


def test_nothing_runs_where_nothing_ever_did(tmp_path: Path) -> None:
    refused = keys(tmp_path / "data", "make", "--owner", "alice")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"Nothing runs with DATA_DIR {tmp_path / 'data'}" in refused.stderr
    assert not (tmp_path / "data").exists()
