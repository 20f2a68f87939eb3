"""API keys in the studio: input, storage per tab, permissions and quotas."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack, running
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."


def test_wrong_key_error(studio: Callable[..., Studio], keyed_stack: Stack) -> None:
    here = studio(keyed_stack.url)
    here.open()
    here.screenshot("key-wanted")
    here.enter_key("vk_nonsense")
    expect(here.page.locator("#key-wrong")).not_to_be_empty()
    expect(here.page.locator("#key-dialog")).to_be_visible()
    here.screenshot("key-wrong")
    here.enter_key(keyed_stack.make_key("alice"))
    expect(here.page.locator("#key-dialog")).not_to_be_visible()
    here.wait_until_connected()


def test_key_is_passed_to_new_tabs(studio: Callable[..., Studio], keyed_stack: Stack) -> None:
    here = studio(keyed_stack.url)
    here.open()
    here.enter_key(keyed_stack.make_key("alice"))
    here.wait_until_connected()
    here.open()
    here.wait_until_connected()
    expect(here.page.locator("#key-dialog")).not_to_be_visible()
    assert here.page.evaluate("localStorage.length + document.cookie.length") == 0
    other_tab = here.context.new_page()
    other_tab.goto(f"{keyed_stack.url}/")
    expect(other_tab.locator("#status-text")).to_have_text("Ready")
    expect(other_tab.locator("#key-dialog")).not_to_be_visible()
    here.page.locator("#open-key").click()
    here.page.get_by_role("button", name="Forget the key").click()
    for tab in (here.page, other_tab):
        expect(tab.locator("#key-dialog")).to_be_visible()


def test_closed_key_dialog_can_be_opened(studio: Callable[..., Studio], keyed_stack: Stack) -> None:
    here = studio(keyed_stack.url)
    here.open()
    here.show("#key-dialog")
    here.page.keyboard.press("Escape")
    expect(here.page.locator("#key-needed")).to_contain_text("Ask its operator for one")
    expect(here.page.locator("#enter-key")).to_be_focused()
    here.screenshot("key-closed")
    here.page.keyboard.press("Enter")
    here.enter_key(keyed_stack.make_key("alice"))
    here.wait_until_connected()
    expect(here.page.locator("#record")).to_be_visible()


def test_socket_opens_with_ticket(studio: Callable[..., Studio], keyed_stack: Stack) -> None:
    here = studio(keyed_stack.url)
    sockets: list[str] = []
    here.page.on("websocket", lambda socket: sockets.append(socket.url))
    here.open()
    key = keyed_stack.make_key("alice")
    here.enter_key(key)
    here.wait_until_connected()
    expect(here.page.locator("#status-text")).to_have_text("Ready")
    assert len(sockets) == 1
    assert "/ws?ticket=" in sockets[0]
    assert key not in sockets[0]


def test_operators_page_requires_admin(studio: Callable[..., Studio], keyed_stack: Stack) -> None:
    here = studio(keyed_stack.url)
    here.open("#operators")
    here.enter_key(keyed_stack.make_key("alice"))
    expect(here.page.locator("#operators-figures")).to_contain_text("`admin`")
    other = studio(keyed_stack.url)
    other.open("#operators")
    other.enter_key(keyed_stack.make_key("root", "admin"))
    expect(other.page.locator("#operators-verdict")).to_contain_text("All systems operational")
    expect(other.page.locator("#operators-figures")).to_contain_text("Jobs of the last hour")
    other.screenshot("operators")


@pytest.fixture(scope="module")
def small_quota_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with small quotas."""
    settings = {"AUTH": "keys", "HOST": "0.0.0.0", "REFERENCE_SECONDS_PER_HOUR": "10"}
    data: Path = tmp_path_factory.mktemp("strict") / "data"
    with running(data, settings) as stack:
        yield stack


def test_used_up_quota_is_shown(studio: Callable[..., Studio], small_quota_stack: Stack) -> None:
    here = studio(small_quota_stack.url)
    here.open()
    here.enter_key(small_quota_stack.make_key("alice"))
    here.wait_until_connected()
    for status in ("ready", "failed"):
        here.choose_file("mine.wav", speech(TEXT))
        expect(here.speak("Hello.")).to_have_attribute("data-status", status)
        here.start_over()
    expect(here.page.locator("#notice")).to_contain_text("seconds of recordings an hour")
    expect(here.page.locator("#notice")).to_contain_text("More is available at ")
    here.screenshot("share-used-up")
