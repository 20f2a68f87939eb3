"""A function's start imports nothing that most of its events do without."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
HEAVY = ("numpy", "soundfile", "slugify", "uvicorn", "fastapi", "mangum")


def loaded(module: str) -> set[str]:
    """Which of the heavy packages a new process has loaded after one import."""
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_http_function_defers_decoder() -> None:
    assert loaded("functions.aws.http_adapter") == {"fastapi", "mangum"}


@pytest.mark.parametrize(
    "module",
    [
        "functions.aws.websocket_routes",
        "functions.background.notify",
        "functions.background.webhooks",
        "functions.background.dead_letters",
        "functions.background.sweep",
    ],
)
def test_other_functions_import_no_http(module: str) -> None:
    assert loaded(module) == set()
