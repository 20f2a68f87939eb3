"""Takes: seeds, the one player, storage in the browser, focus."""

import io
import zipfile
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."


@pytest.fixture
def here(studio: Callable[..., Studio], open_stack: Stack) -> Studio:
    """The studio with a recording."""
    opened = studio(open_stack.url)
    opened.open()
    opened.wait_until_connected()
    opened.choose_file("mine.wav", speech(TEXT))
    return opened


def _seed(here: Studio, number: int) -> str:
    menu = here.take(number).locator(".menu-items")
    return menu.get_by_text("Use seed").text_content() or ""


def test_again_uses_new_seed_unless_locked(here: Studio) -> None:
    here.wait_until_ready(here.speak("Said twice."))
    here.take(1).get_by_role("button", name="Again").click()
    here.wait_until_ready(here.take(2))
    assert _seed(here, 1) != _seed(here, 2)
    here.choose(here.take(1), "Edit text")
    expect(here.page.locator("#seed")).to_have_value("")
    here.choose(here.take(1), "Use seed")
    expect(here.page.locator("#seed")).to_be_visible()
    here.take(2).get_by_role("button", name="Again").click()
    here.wait_until_ready(here.take(3))
    assert _seed(here, 3) == _seed(here, 1)


@pytest.mark.parametrize("seed", ["abc", "-1", "1.5", "4294967296"])
def test_invalid_seed_is_rejected(seed: str, here: Studio) -> None:
    page = here.page
    page.locator("#options summary").click()
    page.locator("#seed").fill(seed)
    page.locator("#options summary").click()
    page.locator("#text").fill("Not sent.")
    page.locator("#speak").click()
    expect(page.locator("#seed-wrong")).to_contain_text("whole number from 0 to 2147483647")
    expect(page.locator("#seed")).to_be_focused()
    expect(page.locator(".take")).to_have_count(0)


def test_one_sound_plays_at_a_time(here: Studio) -> None:
    page = here.page
    here.wait_until_ready(here.speak("One two three four five six seven eight nine ten."))
    here.save_voice("Sampled")
    page.locator("#saved-voices").get_by_label("Play the sample of Sampled").click()
    expect(page.locator("#saved-voices").get_by_label("Pause the sample of Sampled")).to_be_visible()
    expect(page.locator("#voice-saved").get_by_label("Pause the sample of Sampled")).to_be_visible()
    here.take(1).get_by_label("Play Take 1").click()
    expect(here.take(1).get_by_label("Pause Take 1")).to_be_visible()
    expect(page.get_by_label("Pause the sample of Sampled")).to_have_count(0)
    here.take(1).get_by_label("Pause Take 1").click()
    expect(page.locator("[data-sound] use[href='#icon-pause']")).to_have_count(0)


def test_playing_sample_keeps_button_after_use(here: Studio) -> None:
    page = here.page
    here.save_voice("Used while playing")
    page.locator("#voice-again").click()
    row = page.locator(".saved-voice").filter(has_text="Used while playing")
    row.get_by_label("Play the sample").click()
    row.get_by_label("Pause the sample").wait_for()
    row.get_by_role("button", name="Use Used while playing").click()
    row.get_by_label("Pause the sample").click()
    expect(row.get_by_label("Play the sample")).to_be_visible()


def test_all_takes_are_downloaded(here: Studio) -> None:
    for text in ("First.", "Second."):
        here.wait_until_ready(here.speak(text))
    expect(here.page.locator("#takes-stored")).to_contain_text("stay in this browser")
    here.page.locator("#takes-menu summary").click()
    with here.page.expect_download() as download:
        here.page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert sorted(archive.namelist()) == ["take-1.wav", "take-2.wav"]
        assert archive.read("take-1.wav").startswith(b"RIFF")


def test_removed_takes_stay_removed(here: Studio) -> None:
    for text in ("First.", "Second.", "Third."):
        here.wait_until_ready(here.speak(text))
    here.choose(here.take(2), "Remove")
    expect(here.take(2)).to_have_count(0)
    expect(here.take(1).locator("summary.quiet")).to_be_focused()
    here.page.reload()
    here.wait_until_ready(here.take(3))
    expect(here.page.locator(".take")).to_have_count(2)
    here.page.locator("#takes-menu summary").click()
    here.page.get_by_role("button", name="Remove all").click()
    here.page.locator("#confirm-submit").click()
    expect(here.page.locator(".take")).to_have_count(0)
    expect(here.page.locator("#takes-title")).to_be_focused()


def test_deleted_voice_leaves_focus(here: Studio) -> None:
    page = here.page
    here.save_voice("Gone soon")
    row = page.locator(".saved-voice").filter(has_text="Gone soon")
    row.locator("summary.quiet").click()
    row.get_by_role("button", name="Delete", exact=True).click()
    page.locator("#confirm-submit").click()
    expect(row).to_have_count(0)
    assert page.evaluate("document.activeElement !== document.body")


def test_language_is_chosen_once(here: Studio) -> None:
    here.start_over()
    here.page.locator("#reading-language").select_option("German")
    expect(here.page.locator("#language")).to_have_value("German")
    expect(here.page.locator("#options-summary")).to_have_text("Language: German")
