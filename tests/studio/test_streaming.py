"""The studio plays audio during synthesis, if the service streams."""

import base64
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."
JOB = "0" * 32
RATE = 24_000


class StreamingService:
    """The WebSocket of a streaming service.  The test sends the chunks."""

    def __init__(self, here: Studio) -> None:
        self.request: dict[str, Any] = {}
        here.page.route_web_socket("**/ws", self._serve)

    def _serve(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        socket.on_message(self._on_message)

    def _on_message(self, raw: str | bytes) -> None:
        message = json.loads(raw)
        if message["type"] == "generate_preview":
            self.request = message["data"]
            self.send("progress", status="queued", ahead=2)

    def send(self, type_: str, **data: Any) -> None:
        message = {"job_id": JOB, "request_id": self.request["request_id"], **data}
        self._socket.send(json.dumps({"type": type_, "data": message}))

    def send_chunk(self, seq: int, seconds: float = 0.5, **more: Any) -> None:
        samples = (b"\x00\x10" * 12 + b"\x00\xf0" * 12) * int(seconds * RATE / 24)
        audio = base64.b64encode(samples).decode()
        self.send("tts_audio", **{"take": "first", "seq": seq, "sample_rate": RATE, "audio": audio, **more})


def test_audio_chunks_are_played(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    service = StreamingService(here)
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    take = here.speak("Heard before it is done.")
    expect(take.locator(".take-state")).to_contain_text("about 2 before it")
    assert (service.request["stream"], service.request["progress"]) == (True, True)
    service.send("progress", status="started")
    expect(take.locator(".take-state")).to_have_text("Speaking…")
    for seq in range(3):
        service.send_chunk(seq)
    expect(take.locator(".take-state")).to_have_text("Speaking, 1.5 s so far")
    here.screenshot("streaming")
    times = here.chunk_times()
    assert len(times) == 3
    assert [round(later - earlier, 3) for earlier, later in pairwise(times)] == [0.5, 0.5]
    service.send_chunk(2)  # a duplicate is not played
    service.send_chunk(0, take="second")  # another worker starts over
    expect(take.locator(".take-state")).to_have_text("Speaking, 0.5 s so far")
    assert len(here.chunk_times()) == 4


def test_stream_can_be_paused(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    service = StreamingService(here)
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    take = here.speak("Paused in the middle.")
    expect(take).to_have_attribute("data-status", "queued")
    service.send_chunk(0, seconds=4)
    take.get_by_label("Pause Take 1").click()
    expect(take.get_by_label("Play Take 1")).to_be_visible()
    here.page.wait_for_function("() => window.streamContext.state === 'suspended'")
    position = take.locator(".take-facts span").inner_text()
    assert take.locator(".take-facts span").inner_text() == position
    take.get_by_label("Play Take 1").click()
    expect(take.get_by_label("Pause Take 1")).to_be_visible()
    expect(take.locator(".take-facts span")).not_to_have_text(position)


def test_stream_from_real_service(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    take = here.speak("One, two, three, four, five, six, seven, eight, nine, ten.")
    here.wait_until_ready(take)
    times = here.chunk_times()
    assert len(times) > 3
    assert times == sorted(times)
    # The button shows that it is heard. It is not played again automatically.
    expect(take.get_by_label("Pause Take 1")).to_be_visible()
    expect(take.get_by_label("Play Take 1")).to_be_visible()


def test_interrupted_stream_shows_job_error(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    service = StreamingService(here)
    here.page.route(
        f"**/jobs/{JOB}",
        lambda route: route.fulfill(json={"status": "failed", "code": "synthesis_failed", "error": "It broke."}),
    )
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    take = here.speak("Cut off in the middle.")
    expect(take).to_have_attribute("data-status", "queued")
    service.send_chunk(0)
    expect(take).to_have_attribute("data-status", "failed")
    expect(take.locator(".take-state")).to_have_text("It broke.")


def test_preview_retried_without_stream(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    requests: list[dict[str, Any]] = []

    def serve(socket: WebSocketRoute) -> None:
        def on_message(raw: str | bytes) -> None:
            data = json.loads(raw)["data"]
            requests.append(data)
            if "stream" in data:
                refusal = {"message": "There is no option 'stream'.", "code": "invalid_input", "field": "stream"}
                error = {"type": "error", "data": {**refusal, "request_id": data["request_id"]}}
                socket.send(json.dumps(error))

        socket.on_message(on_message)

    here.page.route_web_socket("**/ws", serve)
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    here.speak("Whole or not at all.")
    for _ in range(200):
        if len(requests) == 2:
            break
        here.page.wait_for_timeout(100)
    assert [("stream" in data) for data in requests] == [True, False]
