"""Finds a Python of Lambda's version, which is needed to build the functions' package."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

VERSION = "3.13"
_TELL_VERSION = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"


def find_python(version: str = VERSION) -> str | None:
    """Return a Python of this version that can create virtual environments, or None if there is none."""
    return next((candidate for candidate in _candidates(version) if _is_of(candidate, version)), None)


def _candidates(version: str) -> Iterator[str]:
    yield from filter(None, [os.environ.get("FUNCTIONS_PYTHON"), shutil.which(f"python{version}")])
    for folder in (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python"):
        yield from map(str, sorted(folder.glob(f"*{version}*/bin/python{version}"), reverse=True))


def _is_of(python: str, version: str) -> bool:
    """Run it to check: a name on the path may be a shim of a version manager that has no such Python."""
    try:
        told = subprocess.run([python, "-c", _TELL_VERSION], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return False
    return told.stdout.strip() == version
