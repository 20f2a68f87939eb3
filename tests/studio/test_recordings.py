"""Quality checks of recordings before the upload."""

import random
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech, wav_of
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

RATE = 16_000
SENTENCE = "The weather is fine today, and we walk along the river until the evening comes."


def silence(seconds: float) -> bytes:
    return wav_of([0] * int(seconds * RATE), RATE)


def noise(seconds: float) -> bytes:
    random_source = random.Random(1)
    return wav_of([random_source.randint(-9000, 9000) for _ in range(int(seconds * RATE))], RATE)


@pytest.mark.parametrize(
    ("content", "message", "is_usable"),
    [
        pytest.param(lambda: speech("Hi.", pause_seconds=0.05), "Record at least 1 s", False, id="too short"),
        pytest.param(lambda: silence(5), "We can't hear anything", False, id="silent"),
        pytest.param(lambda: speech(SENTENCE, gain=12), "Too loud in places", True, id="clipped"),
        pytest.param(lambda: noise(6), "noise", True, id="noisy"),
        pytest.param(lambda: speech(SENTENCE, gain=0.04), "Very quiet", True, id="quiet"),
        pytest.param(lambda: speech("Hello there, my friend."), "A bit short", True, id="short"),
    ],
)
def test_file_quality_findings(
    content: Callable[[], bytes], message: str, is_usable: bool, studio: Callable[..., Studio], open_stack: Stack
) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("mine.wav", content())
    expect(here.page.locator("#findings")).to_contain_text(message)
    speak, save = here.page.locator("#speak"), here.page.locator("#save")
    for button in (speak, save):
        expect(button).to_be_enabled() if is_usable else expect(button).to_be_disabled()
    names = {"Too loud in places": "finding-clipped", "We can't hear anything": "finding-nothing"}
    here.screenshot(names[message]) if message in names else None


@pytest.mark.parametrize(
    ("transcript", "message"),
    [
        ("", "Transcript missing"),
        ("many words " * 150, "The transcript is too long"),
        ("Hi.", "The transcript is too short"),
        (SENTENCE, "Good recording"),
        ("今天天气很好，我们沿着河边散步，一直走到傍晚。", "Good recording"),
    ],
)
def test_transcript_findings(
    transcript: str, message: str, studio: Callable[..., Studio], open_stack: Stack
) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("mine.wav", speech(SENTENCE))
    expect(here.page.locator("#transcript")).to_be_focused()
    here.page.locator("#transcript").fill(transcript)
    expect(here.page.locator("#findings")).to_contain_text(message)


def test_non_audio_file_error(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("holiday.jpg", b"not a sound at all")
    expect(here.page.locator("#notice")).to_contain_text("“holiday.jpg” is not a readable audio file")
    expect(here.page.locator("#voice-empty")).to_be_visible()


def test_good_part_of_long_file_is_selected(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("long.wav", speech(f"{SENTENCE} " * 30, pause_seconds=20))
    expect(here.page.locator("#recording-length")).to_have_text(re.compile(r"0:1[0-5]\.\d"))
    start, end = (here.page.get_by_role("slider", name=f"{side} of the selection") for side in ("Start", "End"))
    assert float(start.get_attribute("aria-valuenow") or 0) > 15  # after the silence
    expect(here.page.locator("#findings")).not_to_contain_text("within a word")
    expect(here.page.locator("#speak")).to_be_enabled()
    here.page.keyboard.press("Tab")
    for _ in range(200):
        end.press("PageUp")
    expect(here.page.locator("#findings")).to_contain_text("Select at most 60 s with the handles")
    box = here.page.locator("#trim").bounding_box()
    assert box is not None
    end.hover()
    here.page.mouse.down()
    here.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 10, steps=5)
    here.page.mouse.up()
    expect(here.page.locator("#speak")).to_be_enabled()
    here.wait_until_ready(here.speak("Only the first part of it was sent."))


def test_dropped_file_is_loaded(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    dropped = here.page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "mine.wav", { type: "audio/wav" }));
            return transfer;
        }""",
        list(speech(SENTENCE)),
    )
    here.page.dispatch_event("body", "drop", {"dataTransfer": dropped})  # beside the panel
    here.show("#recording-wave canvas >> nth=0")


def test_reading_texts_in_ten_languages(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    page = here.page
    languages = page.locator("#reading-language option")
    expect(languages).to_have_count(10)
    texts = set[str]()
    for code in ("en", "de", "fr", "es", "it", "pt", "ru", "zh", "ja", "ko"):
        page.locator("#reading-language").select_option(index=len(texts))
        expect(page.locator("#reading-text")).to_have_attribute("lang", code)
        texts.add(page.locator("#reading-text").inner_text())
    assert len(texts) == 10
    page.get_by_role("button", name="Another text").click()
    assert page.locator("#reading-text").inner_text() not in texts


def test_silent_recording_warning(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.page.add_init_script(
        """navigator.mediaDevices.getUserMedia = async () => new MediaStreamAudioDestinationNode(
            new AudioContext()).stream"""
    )
    here.open()
    here.page.locator("#record").click()
    expect(here.page.locator("#recorder-hint")).to_contain_text("We can't hear anything")
    here.screenshot("recording-silence")


def test_microphone_permission_denied(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.page.add_init_script(
        """navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("denied", "NotAllowedError"); }"""
    )
    here.open()
    here.page.locator("#record").click()
    expect(here.page.locator("#notice")).to_contain_text("Microphone access is blocked")
    expect(here.page.locator("#recorder")).to_have_attribute("data-recorder", "idle")
    here.screenshot("microphone-denied")
