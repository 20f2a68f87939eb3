"""A function's start imports nothing that most of its events do without."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
HEAVY = ("numpy", "soundfile", "slugify", "uvicorn", "fastapi", "mangum")


def loaded(*modules: str) -> dict[str, set[str]]:
    """Which of the heavy packages a new process has loaded after each import."""
    script = f"""
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module, *(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {module: set(names) for module, *names in map(str.split, done.stdout.splitlines())}


def test_http_function_defers_decoder() -> None:
    module = "functions.aws.http_adapter"
    assert loaded(module) == {module: {"fastapi", "mangum"}}


def test_other_functions_import_no_http() -> None:
    modules = (
        "functions.aws.websocket_routes",
        "functions.background.notify",
        "functions.background.webhooks",
        "functions.background.dead_letters",
        "functions.background.sweep",
    )
    assert loaded(*modules) == {module: set() for module in modules}
