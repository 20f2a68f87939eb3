"""The recorder stops whenever the page leaves it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."
STOPPED = "() => window.tracks.length && window.tracks.every(({ readyState }) => readyState === 'ended')"
# Lists the tracks of all microphones that were opened.
KEEP_TRACKS = """
window.tracks = [];
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await open(wanted);
    window.tracks.push(...stream.getTracks());
    return stream;
};
"""


def _use_voice(here: Studio) -> None:
    here.page.locator("#saved-voices").get_by_role("button", name="Use").first.click()


def _choose_file(here: Studio) -> None:
    here.choose_file("other.wav", speech(TEXT))


def _press_escape(here: Studio) -> None:
    here.page.keyboard.press("Escape")


def _leave_view(here: Studio) -> None:
    here.page.get_by_role("link", name="Status").click()


@pytest.mark.parametrize("leave", [_use_voice, _choose_file, _press_escape, _leave_view])
def test_recording_stops_when_left(
    leave: Callable[[Studio], None], studio: Callable[..., Studio], open_stack: Stack
) -> None:
    here = studio(open_stack.url)
    here.page.add_init_script(KEEP_TRACKS)
    here.open()
    here.wait_until_connected()
    if leave is _use_voice:
        here.choose_file("mine.wav", speech(TEXT))
        here.save_voice("Recorded before")
        here.page.locator("#voice-again").click()
    here.page.locator("#record").click()
    expect(here.page.locator("#recorder")).to_have_attribute("data-recorder", "recording")
    leave(here)
    here.page.wait_for_function(STOPPED)
    expect(here.page.locator("#recorder")).to_have_attribute("data-recorder", "idle")
    shown = {"_use_voice": "#voice-saved", "_choose_file": "#voice-recorded", "_leave_view": "#operators"}
    expect(here.page.locator(shown.get(leave.__name__, "#voice-empty"))).to_be_visible()


def test_reload_restores_recording_and_text(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    here.page.locator("#transcript").fill(TEXT)
    here.page.locator("#text").fill("Half a tex")
    length = here.page.locator("#recording-length").inner_text()
    here.page.wait_for_timeout(500)  # the pause before the recording is stored
    here.page.reload()
    expect(here.page.locator("#recording-length")).to_have_text(length)
    expect(here.page.locator("#transcript")).to_have_value(TEXT)
    expect(here.page.locator("#text")).to_have_value("Half a tex")
    expect(here.page.locator("#findings")).to_contain_text("Good recording")


def test_start_over_asks_first(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    here.page.get_by_role("button", name="Start over").click()
    expect(here.page.locator("#confirm-dialog")).to_contain_text("Discard this recording?")
    here.screenshot("start-over")
    here.page.get_by_role("button", name="Cancel").click()
    expect(here.page.locator("#voice-recorded")).to_be_visible()
    here.start_over()
    expect(here.page.locator("#record")).to_be_focused()
