"""Faults that the page handles: expired previews, stalled workers, lost connections."""

import re
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack, running
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."


@pytest.fixture
def short_retention_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that keeps previews for six seconds."""
    with running(tmp_path_factory.mktemp("brief") / "data", {"PREVIEW_RETENTION_MINUTES": "0.1"}) as stack:
        yield stack


@pytest.fixture
def slow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with slow synthesis."""
    settings = {"MOCK_DELAY_SECONDS": "4", "WORKER_BATCH_SIZE": "1"}
    with running(tmp_path_factory.mktemp("slow") / "data", settings) as stack:
        yield stack


def load_recording(here: Studio) -> Studio:
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    return here


def test_expired_take_stays_in_browser(studio: Callable[..., Studio], short_retention_stack: Stack) -> None:
    here = load_recording(studio(short_retention_stack.url))
    here.wait_until_ready(here.speak("Soon gone."))
    expect(here.take(1)).to_contain_text("only in this browser", timeout=10_000)
    here.screenshot("expired")
    here.page.reload()
    here.wait_until_ready(here.take(1))
    with here.page.expect_download() as download:
        here.take(1).get_by_role("button", name="Download").click()
    assert download.value.path().read_bytes().startswith(b"RIFF")
    here.take(1).get_by_role("button", name="Again").click()
    here.wait_until_ready(here.take(2))


def test_stalled_worker_is_shown(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = load_recording(studio(slow_stack.url))
    worker = _process(slow_stack, "gpu_runner")
    worker.send_signal(signal.SIGSTOP)
    take = here.speak("I wait for somebody.")
    expect(here.page.locator("#status-text")).to_contain_text(
        "Voice engine offline. New takes will wait.", timeout=25_000
    )
    expect(take.locator(".take-state")).to_contain_text("Voice engine offline")
    expect(take).to_have_attribute("data-status", "queued")
    here.screenshot("worker-away")
    worker.send_signal(signal.SIGCONT)
    here.wait_until_ready(take)
    here.wait_until_connected()


def test_queue_position_is_shown(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = load_recording(studio(slow_stack.url))
    for number in range(4):
        take = here.speak(f"Number {number}.")
        expect(take).not_to_have_attribute("data-status", "sending")
    expect(take.locator(".take-state")).to_contain_text(re.compile(r"In the queue, about \d before it"))
    here.screenshot("queue")
    take.get_by_role("button", name="Stop").click()
    expect(take).to_have_attribute("data-status", "cancelled")


def test_lost_connection_resumes_jobs(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = load_recording(studio(slow_stack.url))
    take = here.speak("Said while nobody was there.")
    expect(take).not_to_have_attribute("data-status", "sending")
    slow_stack.kill("functions")
    expect(here.page.locator("#status-text")).to_contain_text("No connection")
    here.screenshot("connection-lost")
    here.wait_until_ready(take)
    here.wait_until_connected()


def test_offline_network_is_shown(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = load_recording(studio(open_stack.url))
    here.wait_until_ready(here.speak("Before."))
    here.page.route("**/*", lambda route: route.abort("internetdisconnected"))
    here.page.evaluate("window.dispatchEvent(new Event('online'))")  # makes the page reconnect, which fails
    expect(here.page.locator("#status-text")).to_contain_text("No connection")
    take = here.speak("Into the void.")
    expect(take.locator(".take-state")).to_contain_text("The service does not respond")
    here.screenshot("network-dead")
    here.page.unroute("**/*")
    here.wait_until_connected()
    take.get_by_role("button", name="Again").click()
    here.wait_until_ready(here.take(3))


def test_error_bar_closes_after_reconnection(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = load_recording(studio(open_stack.url))
    here.wait_until_ready(here.speak("Before."))
    here.page.clock.install(time=0)
    here.page.clock.pause_at(1000)
    here.page.route("**/*", lambda route: route.abort("internetdisconnected"))
    here.page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(here.page.locator("#status-text")).to_contain_text("No connection")
    here.page.locator("#save").click()
    here.page.keyboard.press("Escape")
    here.choose(here.take(1), "Download MP3")
    expect(here.page.locator("#notice")).to_contain_text("The service does not respond")
    expect(here.page.locator("#notice")).not_to_contain_text("again by itself")
    for _ in range(64):
        here.page.clock.run_for(1000)
        here.page.wait_for_timeout(20)  # for the failure of a request, after which the next one is planned
    here.page.unroute("**/*")
    here.page.clock.resume()
    here.wait_until_connected()  # a long outage does not delay the reconnection further
    expect(here.page.locator("#notice")).to_be_hidden()


def test_preview_without_websocket(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.page.add_init_script(
        """window.WebSocket = class {
            static OPEN = 1;
            readyState = 3;
            constructor() { setTimeout(() => this.onclose(), 10); }
        }"""
    )
    load_recording(here)
    take = here.speak("By asking how the job stands.")
    here.wait_until_ready(take)
    expect(take.get_by_label("Pause Take 1")).to_be_visible()  # plays when complete, because nothing streams


def test_reload_restores_takes(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = load_recording(studio(slow_stack.url))
    here.wait_until_ready(here.speak("Already there."))
    take = here.speak("On its way.")
    expect(take).not_to_have_attribute("data-status", "sending")
    here.page.reload()
    for number in (1, 2):
        here.wait_until_ready(here.take(number))
    expect(here.take(1).locator(".take-text")).to_have_text("Already there.")


def test_duplicate_voice_name_error(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = load_recording(studio(open_stack.url))
    here.save_voice("Twice")
    expect(here.page.locator("#save-dialog")).not_to_be_visible()
    here.page.locator("#voice-again").click()
    here.choose_file("mine.wav", speech(TEXT))
    here.save_voice("Twice")
    expect(here.page.locator("#save-wrong")).to_contain_text("'Twice' is taken")
    here.screenshot("name-taken")


def _process(stack: Stack, name: str) -> psutil.Process:
    [found] = [process for process in stack.process.children() if name in " ".join(process.cmdline())]
    return found
