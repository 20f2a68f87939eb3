"""The browser and the services for the tests of the studio."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.stack import Stack, running
from tests.studio.browser import chromium, speech
from tests.studio.studio import Studio

# The stack and the browser share a few cores.
expect.set_options(timeout=40_000)


# Module scope: Playwright runs an event loop while it is open, which blocks coroutine tests.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium with recorded speech as the microphone input."""
    microphone = tmp_path_factory.mktemp("microphone") / "speech.wav"
    microphone.write_bytes(speech())
    with chromium(microphone) as opened:
        yield opened


@pytest.fixture(scope="session")
def open_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service without API keys."""
    settings = {"MOCK_DELAY_SECONDS": "0.5", "MARK": "c2pa"}
    with running(tmp_path_factory.mktemp("open") / "data", settings) as stack:
        yield stack


@pytest.fixture(scope="session")
def keyed_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that requires API keys."""
    settings = {"AUTH": "keys", "HOST": "0.0.0.0", "MOCK_DELAY_SECONDS": "0.5"}
    with running(tmp_path_factory.mktemp("keyed") / "data", settings) as stack:
        yield stack


@pytest.fixture
def studio(browser: Browser) -> Iterator[Callable[..., Studio]]:
    """A function that opens tabs.  Each tab is checked for errors at the end of the test."""
    opened: list[Studio] = []

    def make(url: str, **how: str) -> Studio:
        opened.append(Studio(browser, url, **how))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
