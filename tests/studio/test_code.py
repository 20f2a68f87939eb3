"""The code examples of the studio run unchanged."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."


@pytest.mark.parametrize("keys", ["open", "keyed"])
def test_code_examples_run(
    keys: str, studio: Callable[..., Studio], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stack: Stack = request.getfixturevalue(f"{keys}_stack")
    key = stack.make_key("carol") if keys == "keyed" else ""
    here = studio(stack.url)
    here.open()
    if key:
        here.enter_key(key)
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    here.wait_until_ready(here.speak('It\'s what a program would say: "quoted", $HOME and `all`.'))
    here.page.locator("#open-code").click()
    here.screenshot(f"code-{keys}")
    for program, code in _codes(here.page).items():
        (tmp_path / "preview.wav").unlink(missing_ok=True)
        ended = _run(program, code, tmp_path, key)
        assert ended.returncode == 0, (program, code, ended.stderr)
        if program == "WebSocket":
            assert ended.stdout.splitlines()[-1].startswith("tts_complete"), ended.stdout
        else:
            assert (tmp_path / "preview.wav").read_bytes().startswith(b"RIFF")


def _codes(page: Page) -> dict[str, str]:
    found = {}
    for tab in ("curl", "Python", "WebSocket"):
        page.get_by_role("tab", name=tab).click()
        found[tab] = page.locator("#code-text").inner_text()
    return found


def _run(program: str, code: str, folder: Path, key: str) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "-c", code] if program == "curl" else [sys.executable, "-c", code]
    environment = {"PATH": "/usr/bin:/bin", "KEY": key}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
