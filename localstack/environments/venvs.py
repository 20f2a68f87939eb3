"""Virtual environments, each created from a lock file, and recreated when it changes."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import structlog
from filelock import FileLock

from environments import ROOT

log = structlog.get_logger()

VENVS = ROOT / ".venvs"
INSTALLER = ROOT / "requirements" / "install.py"

_HERE = Path(__file__).parent
LOCKS = {
    "store": _HERE / "store.lock",
    "localstack": _HERE / "localstack-4.13.1.lock",
    "cloud": _HERE / "cloud.lock",
    "sam": _HERE / "sam.lock",
    "checkov": _HERE / "checkov.lock",
    "lambda": _HERE / "lambda.lock",
    "faster-qwen3-tts": _HERE / "faster-qwen3-tts.lock",
    "openapi-python-client": _HERE / "openapi-python-client.lock",
    "wyoming-openai": _HERE / "wyoming-openai.lock",
    "quality": _HERE / "quality.lock",
    "simulation": ROOT / "infra" / "simulation.lock",
}


class EnvironmentFailed(Exception):
    """An environment can't be created; the message says how to fix it."""


def ensure(name: str, lock: Path, maker: str = sys.executable) -> Path:
    """Return the Python of an environment with the packages of a lock file; create the environment if needed.

    Parameters
    ----------
    name
        The folder of the environment.
    lock
        The lock file to install from.
    maker
        The Python that creates the environment, which gets its version.

    Raises
    ------
    EnvironmentFailed
        It can't be created.
    """
    folder = VENVS / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = folder / "made-from.txt"
    wanted = _fingerprint(lock, maker)
    if _is_made(python, stamp, wanted):  # in a container, on a file system that is read-only
        return python
    VENVS.mkdir(exist_ok=True)
    # Two runs may start at once; one creates the environment, the other waits for it.
    with FileLock(VENVS / f"{name}.lock"):
        if not _is_made(python, stamp, wanted):
            log.info("making a virtual environment", name=name, lock=str(lock.relative_to(ROOT)))
            stamp.unlink(missing_ok=True)
            _make(folder, python, lock, maker)
            stamp.write_text(wanted)
    return python


def _is_made(python: Path, stamp: Path, wanted: str) -> bool:
    return python.exists() and stamp.exists() and stamp.read_text() == wanted


def _fingerprint(lock: Path, maker: str) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}" if maker == sys.executable else maker
    return f"{version} {hashlib.sha256(lock.read_bytes()).hexdigest()}"


def _make(folder: Path, python: Path, lock: Path, maker: str) -> None:
    if maker == sys.executable and importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise EnvironmentFailed(
            f"This Python has no `ensurepip`, so it can't make virtual environments; install the package that adds "
            f"it, such as `python{version}-venv` on Debian and Ubuntu, and try again."
        )
    _run([maker, "-m", "venv", "--clear", str(folder)])
    _run([sys.executable, str(INSTALLER), str(lock), "--python", str(python)])


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentFailed(f"This failed, see above: {' '.join(command)}") from error
