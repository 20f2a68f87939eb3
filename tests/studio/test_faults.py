"""What goes wrong around the page: previews that expire, workers and networks that go away."""

import re
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack, running
from tests.studio.browser import speech
from tests.studio.studio import Studio

# On one worker: a browser that records and plays needs a core for itself.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."


@pytest.fixture
def brief_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that keeps previews for six seconds."""
    with running(tmp_path_factory.mktemp("brief") / "data", {"PREVIEW_RETENTION_MINUTES": "0.1"}) as stack:
        yield stack


@pytest.fixture
def slow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that takes its time to speak."""
    settings = {"MOCK_DELAY_SECONDS": "4", "WORKER_BATCH_SIZE": "1"}
    with running(tmp_path_factory.mktemp("slow") / "data", settings) as stack:
        yield stack


def with_a_voice(here: Studio) -> Studio:
    here.open()
    here.ready()
    here.choose_file("mine.wav", speech(TEXT))
    here.show("#recording-wave canvas >> nth=0")
    return here


def test_expired_preview_can_be_repeated(studio: Callable[..., Studio], brief_stack: Stack) -> None:
    here = with_a_voice(studio(brief_stack.url))
    take = here.speak("Soon gone.")
    here.is_spoken(take)
    expect(take.locator(".take-left")).to_have_text(re.compile(r"expires in 0:0[1-6]"))
    expect(take).to_have_attribute("data-status", "expired", timeout=10_000)
    expect(take.locator(".take-state")).to_contain_text("has expired")
    expect(take.get_by_label("Download take 1")).to_have_count(0)
    here.shot("expired")
    take.get_by_role("button", name="Again").click()
    here.is_spoken(here.take(2))
    here.page.reload()
    expect(here.take(1)).to_have_attribute("data-status", "expired")


def test_stalled_worker_is_shown(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = with_a_voice(studio(slow_stack.url))
    worker = _process(slow_stack, "gpu_runner")
    worker.send_signal(signal.SIGSTOP)
    take = here.speak("I wait for somebody.")
    expect(here.page.locator("#status-text")).to_contain_text("No worker answers", timeout=25_000)
    expect(take.locator(".take-state")).to_contain_text("No worker answers")
    expect(take).to_have_attribute("data-status", "queued")
    here.shot("worker-away")
    worker.send_signal(signal.SIGCONT)
    here.is_spoken(take)
    here.ready()


def test_queue_position_is_shown(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = with_a_voice(studio(slow_stack.url))
    for number in range(4):
        take = here.speak(f"Number {number}.")
        expect(take).not_to_have_attribute("data-status", "sending")
    expect(take.locator(".take-state")).to_contain_text(re.compile(r"In the queue, about \d before it"))
    here.shot("queue")
    take.get_by_role("button", name="Stop").click()
    expect(take).to_have_attribute("data-status", "cancelled")


def test_lost_connection_resumes_jobs(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = with_a_voice(studio(slow_stack.url))
    take = here.speak("Said while nobody was there.")
    expect(take).not_to_have_attribute("data-status", "sending")
    slow_stack.kill("functions")
    expect(here.page.locator("#status-text")).to_contain_text("No connection")
    here.shot("connection-lost")
    here.is_spoken(take)
    here.ready()


def test_offline_network_is_shown(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = with_a_voice(studio(open_stack.url))
    here.is_spoken(here.speak("Before."))
    here.page.route("**/*", lambda route: route.abort("internetdisconnected"))
    here.page.evaluate("window.dispatchEvent(new Event('online'))")  # so that the socket is opened anew, in vain
    expect(here.page.locator("#status-text")).to_contain_text("No connection")
    take = here.speak("Into the void.")
    expect(take.locator(".take-state")).to_contain_text("The service does not answer")
    here.shot("network-dead")
    here.page.unroute("**/*")
    here.ready()
    take.get_by_role("button", name="Again").click()
    here.is_spoken(here.take(3))


def test_preview_without_websocket(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.page.add_init_script(
        """window.WebSocket = class {
            static OPEN = 1;
            readyState = 3;
            constructor() { setTimeout(() => this.onclose(), 10); }
        }"""
    )
    with_a_voice(here)
    take = here.speak("By asking how the job stands.")
    here.is_spoken(take)
    expect(take).to_have_class(re.compile("is-playing"))  # as soon as it is whole, where nothing streams


def test_reload_restores_takes(studio: Callable[..., Studio], slow_stack: Stack) -> None:
    here = with_a_voice(studio(slow_stack.url))
    here.is_spoken(here.speak("Already there."))
    take = here.speak("On its way.")
    expect(take).not_to_have_attribute("data-status", "sending")
    here.page.reload()
    for number in (1, 2):
        here.is_spoken(here.take(number))
    expect(here.take(1).locator(".take-text")).to_have_text("Already there.")


def test_duplicate_voice_name_error(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = with_a_voice(studio(open_stack.url))
    for _ in range(2):
        if not here.page.locator("#save").is_visible():
            here.page.get_by_role("button", name="Start over").click()
            here.choose_file("mine.wav", speech(TEXT))
        here.page.locator("#save").click()
        here.page.locator("#save-name").fill("Twice")
        here.page.locator("#save-agreed").check()
        here.page.locator("#save-dialog [type=submit]").click()
        if _ == 0:
            expect(here.page.locator("#save-dialog")).not_to_be_visible()
    expect(here.page.locator("#save-wrong")).to_contain_text("'Twice' is taken")
    here.shot("name-taken")


def _process(stack: Stack, name: str) -> psutil.Process:
    [found] = [process for process in stack.process.children() if name in " ".join(process.cmdline())]
    return found
