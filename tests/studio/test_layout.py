"""The layout on small screens, at high zoom, in forced colours, and the loading time on a slow network."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."
LATENCY_MS = 400
BYTES_PER_SECOND = 50_000
USABLE_WITHIN_MS = 5000
# Visible controls that are lower than a size, with their heights.
LOWER_THAN = """least => [...document.querySelectorAll("button, a[href], select, summary, input, textarea")]
    .filter((one) => one.checkVisibility() && !one.closest(".sr, .skip") && !one.matches(".sr, .skip"))
    .filter((one) => !one.matches("[type=checkbox]") && !one.closest("blockquote"))
    .map((one) => [one.id || one.textContent.trim(), one.getBoundingClientRect().height])
    .filter(([, height]) => height < least)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def _with_voice_and_takes(here: Studio) -> Studio:
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    here.wait_until_ready(here.speak("Donaudampfschifffahrtsgesellschaft" * 6))
    here.wait_until_ready(here.speak("Again."))
    for number in (1, 2):
        here.choose(here.take(number), "Compare")
    return here


@pytest.mark.parametrize(
    ("width", "height"),
    [pytest.param(320, 640, id="320 px"), pytest.param(640, 450, id="200 % zoom of 1280 px")],
)
def test_page_fits_small_screens(width: int, height: int, studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.page.set_viewport_size({"width": width, "height": height})
    _with_voice_and_takes(here)
    for view in ("#studio", "#verify", "#operators"):
        here.page.evaluate(f"location.hash = '{view}'")
        expect(here.page.locator(view)).to_be_visible()
        assert here.page.evaluate(OVERFLOW) <= 0, view
    here.page.evaluate("location.hash = '#studio'")
    here.page.evaluate("scrollTo(0, 0)")
    here.screenshot(f"width-{width}")
    _expect_menus_on_screen(here.page)


def _expect_menus_on_screen(page: Page) -> None:
    for summary in page.locator(".take summary.quiet, #takes-menu summary").all():
        summary.click()
        box = page.locator("details.menu[open] .menu-items").bounding_box()
        size = page.viewport_size
        assert box is not None
        assert size is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= size["width"]
        assert 0 <= box["y"] <= box["y"] + box["height"] <= size["height"]
        page.keyboard.press("Escape")


def test_touch_targets_are_large(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = _with_voice_and_takes(studio(open_stack.url, size="phone"))
    here.page.locator("#options summary").click()
    assert here.page.evaluate(LOWER_THAN, 44) == []
    here.start_over()
    assert here.page.evaluate(LOWER_THAN, 44) == []


def test_controls_are_visible_in_forced_colors(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.page.emulate_media(forced_colors="active")
    here.open()
    dot = "getComputedStyle(document.querySelector('.record-dot')).backgroundColor"
    background = "getComputedStyle(document.querySelector('.recorder')).backgroundColor"
    assert here.page.evaluate(f"{dot} !== {background}")
    here.screenshot("forced-colors")
    here.check_accessibility()


def test_theme_is_kept(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = here.page.evaluate(ground)
    here.page.get_by_label("Theme: system").click()
    here.page.get_by_label("Theme: light").click()
    assert here.page.evaluate(ground) != light
    here.page.reload()
    expect(here.page.get_by_label("Theme: dark")).to_be_visible()
    assert here.page.evaluate(ground) != light


@pytest.mark.parametrize(
    ("language", "record", "none"), [("de", "Aufnehmen", "Noch keine"), ("es", "Grabar", "Aún no")]
)
def test_page_is_translated(
    language: str, record: str, none: str, studio: Callable[..., Studio], open_stack: Stack
) -> None:
    here = studio(open_stack.url)
    here.open()
    here.page.locator("#page-language").select_option(language)
    expect(here.page.locator("html")).to_have_attribute("lang", language)
    expect(here.page.get_by_role("button", name=record)).to_be_visible()
    expect(here.page.locator("#takes-none")).to_contain_text(none)
    assert here.page.evaluate(OVERFLOW) <= 0
    here.check_accessibility()
    here.screenshot(f"language-{language}")


def test_first_visit_on_slow_network(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    session = here.context.new_cdp_session(here.page)
    session.send("Network.enable")
    conditions = {
        "latency": LATENCY_MS,
        "downloadThroughput": BYTES_PER_SECOND,
        "uploadThroughput": BYTES_PER_SECOND,
    }
    session.send("Network.emulateNetworkConditions", {"offline": False, **conditions})
    here.page.goto(here.url, wait_until="commit")
    # Usable: the sentence is shown, and the record button works.
    expect(here.page.locator("#reading-text")).not_to_be_empty()
    assert here.page.evaluate("performance.now()") < USABLE_WITHIN_MS
    here.page.locator("#record").click()
    expect(here.page.locator("#recorder")).not_to_have_attribute("data-recorder", "idle")
    here.wait_until_connected()


def test_docs_page_links_back(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.page.get_by_role("link", name="API docs").click()
    expect(here.page.locator("#swagger-ui .opblock").first).to_be_visible()
    here.screenshot("docs")
    here.page.get_by_role("link", name="Voice studio").click()
    expect(here.page.locator("#record")).to_be_visible()
