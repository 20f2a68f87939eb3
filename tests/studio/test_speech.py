"""The studio with the hibari engine and recorded speech: a recognizer reads the text from the audio of the page."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack, running
from tests.quality.environment import measured, recordings
from tests.studio.browser import chromium
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."
WORD_ERROR_RATE_MAX = 0.2
# The page's policy does not allow scripts to fetch blob URLs.
KEEP_PLAYED = """
const blobs = new Map();
const createObjectURL = URL.createObjectURL;
URL.createObjectURL = (blob) => {
    const url = createObjectURL(blob);
    blobs.set(url, blob);
    return url;
};
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
    window.played = blobs.get(this.currentSrc);
    return play.call(this);
};
"""
READ_PLAYED = """async () => {
    const bytes = new Uint8Array(await window.played.arrayBuffer());
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}"""


@pytest.fixture(scope="module")
def hibari_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("hibari") / "data", {"TTS_BACKEND": "hibari"}) as stack:
        yield stack


def test_recognizer_reads_take(hibari_stack: Stack, tmp_path: Path) -> None:
    reader, wav = recordings() / "two_cities.wav", tmp_path / "take.wav"
    with chromium(reader) as browser:
        here = Studio(browser, hibari_stack.url)
        here.context.add_init_script(KEEP_PLAYED)
        here.open()
        here.wait_until_connected()
        expect(here.page.locator("#headline")).to_have_text("Record a voice. Hear a stock voice tuned to it.")
        here.record(seconds=6)
        take = here.speak(TEXT)
        here.wait_until_ready(take)
        expect(take).to_contain_text("Adapted stock voice, not a clone")
        here.screenshot("hibari")
        take.get_by_label("Play Take 1").click()  # after the stream
        here.page.wait_for_function("() => window.played")
        wav.write_bytes(base64.b64decode(here.page.evaluate(READ_PLAYED)))
        here.close()
    item = {"wav": str(wav), "spoken": [TEXT], "language": "English", "reference": "reader", "transcription": ""}
    [measures], _ = measured([item], {"reader": reader}, tmp_path)
    assert measures["word_errors"] / measures["words"] <= WORD_ERROR_RATE_MAX, measures
