"""The environment of the measures. Its packages are not installed in the environment of the service."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from environments import ROOT
from environments.venvs import LOCKS, EnvironmentFailed, ensure

TORCH = ROOT / "requirements" / "torch.in"


def quality_python() -> Path:
    """Return the Python of the environment `quality`, and create the environment if needed.

    torch is installed without hashes, because its CPU build depends on the package index.

    Raises
    ------
    EnvironmentFailed
        It cannot be created.
    """
    python = ensure("quality", LOCKS["quality"])
    if not list(python.parents[1].glob("lib/python*/site-packages/torch")):
        command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(TORCH)]
        if subprocess.call(command):
            raise EnvironmentFailed(f"torch cannot be installed: {' '.join(command)}")
    return python


def recordings() -> Path:
    """Return the folder with the recordings in the wheel of `moonshine-voice`."""
    (folder,) = quality_python().parents[1].glob("lib/python*/site-packages/moonshine_voice/assets")
    return folder


def measured(
    items: Sequence[dict[str, Any]], references: Mapping[str, Path], folder: Path
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Run `tests.quality.measures`.

    Returns
    -------
    tuple
        The items with their measures, and the versions of the packages.
    """
    request, result = folder / "request.json", folder / "result.json"
    paths = {name: str(path) for name, path in references.items()}
    request.write_text(json.dumps({"references": paths, "items": items}))
    arguments = ["-W", "ignore", "-m", "tests.quality.measures", str(request), str(result)]
    # One thread each: the models are small, and their threads would wait for each other on few cores.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([str(quality_python()), *arguments], cwd=ROOT, env=environment, check=True)
    answer = json.loads(result.read_text())
    merged = [{**item, **values} for item, values in zip(items, answer["items"], strict=True)]
    return merged, answer["versions"]
