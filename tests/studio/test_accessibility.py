"""Accessibility: axe, keyboard, small screens, light and dark color schemes."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_no_violations(size: str, scheme: str, studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url, size=size, scheme=scheme)
    here.open()
    here.wait_until_connected()
    here.check_accessibility()
    page = here.page
    page.get_by_text("What makes a good recording").click()
    page.locator(".more-options summary").click()
    here.choose_file("mine.wav", speech(TEXT, gain=12))
    here.show("#recording-wave canvas >> nth=0")
    for _ in range(2):
        here.wait_until_ready(here.speak("What is said."))
    for number in (1, 2):
        here.take(number).get_by_role("button", name="Compare").click()
    here.take(1).get_by_label("Download take 1").click()
    here.check_accessibility()
    page.keyboard.press("Escape")
    for open_dialog in ("#save", "[data-code=speak]"):
        page.locator(open_dialog).click()
        here.check_accessibility()
        page.keyboard.press("Escape")
    _save(page, f"{size} {scheme}")
    page.get_by_text("Agreed on").first.click()
    for choice in ("Rename", "Delete", "Code for these"):
        page.get_by_label("More about").first.click()
        page.get_by_role("button", name=choice).click()
        here.check_accessibility()
        page.keyboard.press("Escape")
    page.evaluate("location.hash = '#operators'")
    expect(page.locator("#operators-figures")).to_contain_text("Queues")
    here.check_accessibility()


def _save(page: Page, name: str) -> None:
    page.locator("#save").click()
    page.locator("#save-name").fill(name)
    page.locator("#save-agreed").check()
    page.locator("#save-dialog [type=submit]").click()
    expect(page.locator("#voice-saved")).to_be_visible()


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_page_fits_screen_width(size: str, studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url, size=size)
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    here.wait_until_ready(here.speak("Donaudampfschifffahrtsgesellschaft" * 6))
    assert here.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_keyboard_records_and_saves_voice(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.wait_until_connected()
    page = here.page
    _tab_to(page, "record")
    page.keyboard.press("Space")
    expect(page.locator("#recorder")).to_have_attribute("data-recorder", "recording")
    page.wait_for_timeout(6000)
    page.keyboard.press("Space")
    expect(page.locator("#voice-recorded")).to_be_visible()
    _tab_to(page, "text")
    page.keyboard.type("Typed, and spoken.")
    page.keyboard.press("Control+Enter")
    here.wait_until_ready(here.take(1))
    _tab_to(page, "save")
    page.keyboard.press("Enter")
    expect(page.locator("#save-name")).to_be_focused()
    page.keyboard.type("By keyboard")
    _tab_to(page, "save-agreed")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Play the sample of By keyboard").first).to_be_visible()


def _tab_to(page: Page, id_: str) -> None:
    """Press Tab until an element has the focus, at most 80 times."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == id_:
            return
    raise AssertionError(f"#{id_} can't be reached by Tab")
