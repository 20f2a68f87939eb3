"""Install a lock file into the environment of a Python: by uv where it is found, else by pip.

    python requirements/install.py requirements/dev.lock --python .venvs/service/bin/python

uv is looked for in `.venvs/uv`, which the Makefile makes where the package index has it, and on the PATH. Either
installs exactly the versions and hashes that are locked. uv compiles nothing: Python does when it first imports a
module, which few of those installed ever are.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV_FOLDER = ROOT / ".venvs" / "uv" / ("Scripts" if sys.platform == "win32" else "bin")


def main() -> int:
    """Install, and return the exit status of the installer that was used last."""
    parser = argparse.ArgumentParser(description="Install a lock file.")
    parser.add_argument("lock", type=Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment")
    arguments = parser.parse_args()
    return install(arguments.lock, arguments.python)


def install(lock: Path, python: str, uv: str | None = None) -> int:
    """Install a lock file into the environment of `python`; an index that only pip knows is left to pip.

    Parameters
    ----------
    lock
        Requirements with versions and hashes, complete: nothing is resolved.
    python
        Path of the environment's interpreter.
    uv
        Path of uv; looked for when None.
    """
    found = uv or find_uv()
    if found and subprocess.call(uv_command(found, lock, python)) == 0:
        return 0
    return subprocess.call(pip_command(lock, python))


def find_uv() -> str | None:
    """Return the path of uv, or None when there is none."""
    return shutil.which("uv", path=str(UV_FOLDER)) or shutil.which("uv")


def uv_command(uv: str, lock: Path, python: str) -> list[str]:
    """Return the arguments with which uv installs a lock file."""
    options = ["--quiet", "--no-deps", "--require-hashes"]
    return [uv, "pip", "install", *options, "--python", python, "--requirement", str(lock)]


def pip_command(lock: Path, python: str) -> list[str]:
    """Return the arguments with which pip installs a lock file."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    return [python, "-m", "pip", "install", *options, "--requirement", str(lock)]


if __name__ == "__main__":
    sys.exit(main())
