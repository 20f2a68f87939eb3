"""A browser, and the service that it looks at."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.stack import Stack, running
from tests.studio.browser import chromium, speech
from tests.studio.studio import Studio

# The processes of a stack and a browser share few cores.
expect.set_options(timeout=20_000)


# Not for the session: an event loop runs while it is open, and no test that is a coroutine could.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, with speech at its microphone."""
    microphone = tmp_path_factory.mktemp("microphone") / "speech.wav"
    microphone.write_bytes(speech())
    with chromium(microphone) as opened:
        yield opened


@pytest.fixture(scope="session")
def open_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that wants no keys."""
    with running(tmp_path_factory.mktemp("open") / "data", {"MOCK_DELAY_SECONDS": "0.5"}) as stack:
        yield stack


@pytest.fixture(scope="session")
def keyed_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that wants keys."""
    settings = {"AUTH": "keys", "HOST": "0.0.0.0", "MOCK_DELAY_SECONDS": "0.5"}
    with running(tmp_path_factory.mktemp("keyed") / "data", settings) as stack:
        yield stack


@pytest.fixture
def studio(browser: Browser) -> Iterator[Callable[..., Studio]]:
    """Open tabs; each is looked over when the test is done."""
    opened: list[Studio] = []

    def make(url: str, **how: str) -> Studio:
        opened.append(Studio(browser, url, **how))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
