"""The start of the Qwen engine in the studio: a slow download, an outage of the hub, and the loaded model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack, wait_until
from tests.studio.studio import Studio
from tests.support.fake_hub import fake_hub

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

MODEL = "someone/tiny"
PADDING_BYTES = 60_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tiny checkpoint, with a file that takes a while to download."""
    from tests.qwen import tiny_checkpoint

    folder = tiny_checkpoint.build(tmp_path_factory.mktemp("checkpoint"))
    found = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return {**found, "padding.bin": bytes(PADDING_BYTES)}


def test_unloadable_engine_is_shown(studio: Callable[..., Studio], tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", {"TTS_BACKEND": "qwen", "QWEN_TTS_MODEL_ID": "/nowhere", "DEVICE": "cpu"})
    reason = "QWEN_TTS_MODEL_ID=/nowhere: there is no such directory"
    try:
        stack.start(until="The studio is at")
        here = studio(stack.url)
        here.open()
        expect(here.page.locator("#status-text")).to_have_text("The voice engine can't start", timeout=60_000)
        expect(here.page.locator("#engine-notice")).to_contain_text(reason)
        here.page.evaluate("location.hash = '#operators'")
        expect(here.page.locator("#operators")).to_contain_text(reason)
        expect(here.page.locator("#operators-verdict")).to_contain_text("Needs attention")
        wait_until(lambda: reason in stack.logged(), "the reason in the log")
    finally:
        stack.stop_all()


def test_engine_start_is_shown(studio: Callable[..., Studio], files: dict[str, bytes], tmp_path: Path) -> None:
    with fake_hub(MODEL, files) as hub:
        hub.bytes_per_second = 4e6
        settings = {"TTS_BACKEND": "qwen", "QWEN_TTS_MODEL_ID": MODEL, "DEVICE": "cpu", "TORCH_THREADS": "1"}
        cache = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
        stack = Stack(tmp_path / "data", settings | cache)
        try:
            stack.start(until="The studio is at")
            here = studio(stack.url)
            here.open()
            status, notice = here.page.locator("#status-text"), here.page.locator("#engine-notice")
            expect(status).to_contain_text("Downloading the voice engine: ", timeout=60_000)
            expect(status).to_contain_text(" left", timeout=30_000)
            here.screenshot("engine-download")
            hub.is_up = False
            expect(status).to_have_text("The voice engine can't start", timeout=60_000)
            expect(notice).to_contain_text(f"can't be downloaded from {hub.host}")
            expect(notice).to_contain_text("are kept, and the next attempt continues there")
            here.screenshot("engine-failed")
            here.page.evaluate("location.hash = '#operators'")
            expect(here.page.locator("#operators")).to_contain_text(f"can't be downloaded from {hub.host}")
            expect(here.page.locator("#operators")).not_to_contain_text("All systems operational")
            here.page.evaluate("location.hash = '#studio'")
            hub.is_up = True
            hub.bytes_per_second = 100e6
            expect(status).to_have_text("Ready", timeout=120_000)
            expect(notice).to_be_hidden()
            # The supervisor polls the worker, so it may print its message after the studio shows "Ready".
            wait_until(lambda: "Listening on" in stack.logged(), "the startup message")
            log = stack.logged()
            assert "can't load the engine" in log
            assert log.index("The studio is at") < log.index("downloading the model") < log.index("Listening on")
        finally:
            stack.stop_all()
