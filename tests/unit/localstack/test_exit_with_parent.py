"""A program ends with its parent, or when the parent closes the pipe."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from supervision import exit_with_parent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="looks at POSIX exit codes")

POLITE = """
import os, signal, sys, time
def stop(*_):
    os.write(1, b"stopping\\n")
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("up", sys.argv[1:], repr(sys.stdin.read()), flush=True)
time.sleep(60)
"""

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "print('child up', flush=True); import time; time.sleep(60)"])
time.sleep(60)
"""

WITHOUT_SPACE = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
import large
"""


def _start(tmp_path: Path, code: str, grace_seconds: float = 60) -> subprocess.Popen[str]:
    script = tmp_path / "program.py"
    script.write_text(code)
    shortened = f"from supervision import exit_with_parent as it; it.GRACE_SECONDS = {grace_seconds}; it.main()"
    return subprocess.Popen(
        [sys.executable, "-c", shortened, str(script), "--an-argument"],
        env={"PYTHONPATH": str(Path(exit_with_parent.__file__).parents[1])},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_closed_pipe_stops_program(tmp_path: Path) -> None:
    process = _start(tmp_path, POLITE)
    assert _first_line(process) == "up ['--an-argument'] ''"
    out, _ = process.communicate(timeout=10)  # closes its stdin
    assert out == "stopping\n"
    assert process.returncode == 7


def test_hanging_program_is_killed(tmp_path: Path) -> None:
    process = _start(tmp_path, STUBBORN, grace_seconds=0.3)
    assert _first_line(process) == "child up"
    process.communicate(timeout=10)  # returns when the child, too, has let go of stdout
    assert process.returncode == -signal.SIGKILL


def test_exit_code_is_passed_on(tmp_path: Path) -> None:
    with _start(tmp_path, "raise SystemExit(3)") as process:
        assert process.wait(10) == 3


def test_incomplete_bytecode_is_removed(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text(f"content = {'x' * 10_000!r}")
    for _ in range(2):
        with _start(tmp_path, WITHOUT_SPACE) as process:
            assert process.wait(10) == 0
        assert not list(tmp_path.rglob("*.pyc"))
    with _start(tmp_path, WITHOUT_SPACE.replace("1000", "100_000")) as process:
        assert process.wait(10) == 0
    assert list(tmp_path.rglob("*.pyc"))
