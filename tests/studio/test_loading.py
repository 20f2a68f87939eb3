"""Actions of the user while scripts of the page are still being loaded."""

from collections.abc import Callable

import pytest
from playwright.sync_api import FilePayload, Route, expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]


def _open_without(here: Studio, script: str, view: str = "") -> Route:
    """Open the page, and hold the response to the request of a script."""
    held: list[Route] = []
    here.page.route(f"**/script/{script}", lambda route: held.append(route))
    with here.page.expect_request(f"**/script/{script}"):
        here.page.goto(f"{here.url}/{view}")
    while not held:
        here.page.wait_for_timeout(10)
    return held[0]


@pytest.mark.parametrize(
    ("script", "view", "file_input", "shown"),
    [
        ("verify.js", "#verify", "#verify-file", "#verify-result h2"),
        ("rest.js", "#studio", "#import", "#notice"),
    ],
)
def test_file_chosen_before_script_is_used(
    script: str, view: str, file_input: str, shown: str, studio: Callable[..., Studio], open_stack: Stack
) -> None:
    here = studio(open_stack.url)
    held = _open_without(here, script, view)
    file: FilePayload = {"name": "early.wav", "mimeType": "audio/wav", "buffer": speech("Chosen early.")}
    here.page.locator(file_input).set_input_files(file)
    held.continue_()
    here.show(shown)
    expect(here.page.locator(file_input)).to_have_value("")


@pytest.mark.parametrize(
    ("script", "button", "size", "shown"),
    [
        ("code/code-dialog.js", "#open-code", "desktop", "#code-dialog"),
        ("rest.js", "#show-saved", "phone", "#saved-voices"),
    ],
)
def test_button_is_disabled_until_script_is_loaded(
    script: str, button: str, size: str, shown: str, studio: Callable[..., Studio], open_stack: Stack
) -> None:
    here = studio(open_stack.url, size=size)
    held = _open_without(here, script)
    expect(here.page.locator(button)).to_be_disabled()
    held.continue_()
    here.page.locator(button).click()
    here.show(shown)
