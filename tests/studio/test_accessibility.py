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
    page.get_by_text("Tips for a good recording").click()
    page.locator(".more-options summary").click()
    here.choose_file("mine.wav", speech(TEXT, gain=12))
    for _ in range(2):
        here.wait_until_ready(here.speak("What is said."))
    for number in (1, 2):
        here.choose(here.take(number), "Compare")
    here.take(1).locator("summary.quiet").click()
    here.check_accessibility()
    page.keyboard.press("Escape")
    for open_dialog in ("#save", "#voice-again"):
        page.locator(open_dialog).click()
        here.check_accessibility()
        page.keyboard.press("Escape")
    page.evaluate("document.getElementById('open-code').click()")  # hidden on phones
    here.check_accessibility()
    page.keyboard.press("Escape")
    here.save_voice(f"{size} {scheme}")
    expect(page.locator("#voice-saved")).to_be_visible()
    page.evaluate("document.getElementById('show-saved').click()")  # hidden on desktops
    page.get_by_text("Consent given").first.click()
    for choice in ("Rename", "Delete"):
        page.locator(".saved-voice summary.quiet").first.click()
        page.get_by_role("button", name=choice).first.click()
        here.check_accessibility()
        page.keyboard.press("Escape")
    page.evaluate("location.hash = '#verify'")
    here.check_accessibility()
    page.evaluate("location.hash = '#operators'")
    expect(page.locator("#operators-figures")).to_contain_text("Queues")
    here.check_accessibility()


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
    expect(page.locator("#text")).to_be_focused()


def _tab_to(page: Page, id_: str) -> None:
    """Press Tab until an element has the focus, at most 80 times."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == id_:
            return
    raise AssertionError(f"#{id_} can't be reached by Tab")
