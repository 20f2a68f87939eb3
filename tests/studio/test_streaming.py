"""A take is heard while it is still being made, where the service streams."""

import base64
import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# On one worker: a browser that records and plays needs a core for itself.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."
JOB = "0" * 32
RATE = 24_000


class StreamingService:
    """The socket of a service that streams; the test says when the next piece comes."""

    def __init__(self, here: Studio) -> None:
        self.asked: dict[str, Any] = {}
        here.page.route_web_socket("**/ws", self._serve)

    def _serve(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        socket.on_message(self._hear)

    def _hear(self, raw: str | bytes) -> None:
        message = json.loads(raw)
        if message["type"] == "generate_preview":
            self.asked = message["data"]
            self.say("progress", status="queued", ahead=2)

    def say(self, type_: str, **data: Any) -> None:
        told = {"job_id": JOB, "request_id": self.asked["request_id"], **data}
        self._socket.send(json.dumps({"type": type_, "data": told}))

    def piece(self, seq: int, seconds: float = 0.5, **more: Any) -> None:
        samples = (b"\x00\x10" * 12 + b"\x00\xf0" * 12) * int(seconds * RATE / 24)
        audio = base64.b64encode(samples).decode()
        self.say("tts_audio", **{"take": "first", "seq": seq, "sample_rate": RATE, "audio": audio, **more})


def test_audio_chunks_are_played(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    service = StreamingService(here)
    here.open()
    here.ready()
    here.choose_file("mine.wav", speech(TEXT))
    take = here.speak("Heard before it is done.")
    expect(take.locator(".take-state")).to_contain_text("about 2 before it")
    assert (service.asked["stream"], service.asked["progress"]) == (True, True)
    service.say("progress", status="started")
    expect(take.locator(".take-state")).to_have_text("Speaking…")
    for seq in range(3):
        service.piece(seq)
    expect(take.locator(".take-state")).to_have_text("Speaking, 1.5 s so far")
    here.shot("streaming")
    begun = here.pieces()
    assert len(begun) == 3
    assert [round(later - earlier, 3) for earlier, later in pairwise(begun)] == [0.5, 0.5]
    service.piece(2)  # what is sent twice is heard once
    service.piece(0, take="second")  # another worker begins anew
    expect(take.locator(".take-state")).to_have_text("Speaking, 0.5 s so far")
    assert len(here.pieces()) == 4


def test_stream_from_real_service(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.ready()
    here.choose_file("mine.wav", speech(TEXT))
    take = here.speak("One, two, three, four, five, six, seven, eight, nine, ten.")
    here.is_spoken(take)
    begun = here.pieces()
    assert len(begun) > 3
    assert begun == sorted(begun)
    # What was heard as it came is not played a second time by itself.
    here.page.wait_for_timeout(1000)
    expect(take).not_to_have_class(re.compile("is-playing"))


def test_interrupted_stream_shows_job_error(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    service = StreamingService(here)
    here.page.route(
        f"**/jobs/{JOB}",
        lambda route: route.fulfill(json={"status": "failed", "code": "synthesis_failed", "error": "It broke."}),
    )
    here.open()
    here.ready()
    here.choose_file("mine.wav", speech(TEXT))
    take = here.speak("Cut off in the middle.")
    expect(take).to_have_attribute("data-status", "queued")
    service.piece(0)
    expect(take).to_have_attribute("data-status", "failed")
    expect(take.locator(".take-state")).to_have_text("It broke.")


def test_preview_retried_without_stream(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    asked: list[dict[str, Any]] = []

    def serve(socket: WebSocketRoute) -> None:
        def hear(raw: str | bytes) -> None:
            data = json.loads(raw)["data"]
            asked.append(data)
            if "stream" in data:
                refusal = {"message": "There is no option 'stream'.", "code": "invalid_input", "field": "stream"}
                error = {"type": "error", "data": {**refusal, "request_id": data["request_id"]}}
                socket.send(json.dumps(error))

        socket.on_message(hear)

    here.page.route_web_socket("**/ws", serve)
    here.open()
    here.ready()
    here.choose_file("mine.wav", speech(TEXT))
    here.speak("Whole or not at all.")
    for _ in range(200):
        if len(asked) == 2:
            break
        here.page.wait_for_timeout(100)
    assert [("stream" in data) for data in asked] == [True, False]
