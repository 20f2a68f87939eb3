"""The lifecycle of a voice in the studio, from recording to deletion."""

import io
import json
import re
import zipfile
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.client import Client
from tests.e2e.stack import Stack
from tests.studio.browser import SENTENCE
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

WORDS = "I never said this, and yet here it is, in my own voice."


@pytest.mark.parametrize(
    ("keys", "size", "scheme"),
    [("open", "desktop", "light"), ("keyed", "phone", "dark")],
    ids=["open-desktop-light", "keyed-phone-dark"],
)
def test_voice_recorded_saved_and_deleted(
    keys: str, size: str, scheme: str, studio: Callable[..., Studio], request: pytest.FixtureRequest
) -> None:
    stack: Stack = request.getfixturevalue(f"{keys}_stack")
    key = stack.make_key("alice") if keys == "keyed" else None
    service = Client(stack.url, stack.socket_url, key)
    for left in service.get("/voices").json()["voices"]:  # left by other tests of the same service
        service.request("DELETE", f"/voices/{left['voice_id']}")
    here = studio(stack.url, size=size, scheme=scheme)
    here.open()
    if key:
        here.enter_key(key)
    here.wait_until_connected()
    page = here.page
    here.screenshot(f"{size}-empty")

    _record(here, size)
    _synthesize(here, size)
    expect(here.take(1)).to_contain_text("Test tone, not speech")
    expect(page.locator("#engine-notice")).to_contain_text("make run TTS_BACKEND=qwen")
    _compare(here, size)
    _download(here.take(1), page)
    _save(here, size)

    [kept] = service.get("/voices").json()["voices"]
    assert (kept["name"], kept["description"]) == ("Nova", "calm, close to the microphone")
    assert kept["consent"]["text"].startswith("I agree that this recording")

    _check_saved_voice(here, size)
    _rename(here)
    assert service.get("/voices/nova").json()["name"] == "Nova of the coast"
    _export(here)
    _use_saved_voice(here)
    _delete(here, size)
    assert service.get("/voices").json() == {"voices": []}


def _record(here: Studio, size: str) -> None:
    page = here.page
    page.locator("#record").click()
    expect(page.locator("#recorder")).to_have_attribute("data-recorder", "recording")
    page.wait_for_timeout(4000)
    assert page.locator("#level").evaluate("meter => meter.value") > 0
    expect(page.locator("#recorder-time")).to_have_text(re.compile(r"0:0[3-6]\.\d"))
    here.screenshot(f"{size}-recording")
    page.wait_for_timeout(4500)
    page.locator("#record").click()
    expect(page.locator("#transcript")).to_have_value(SENTENCE)
    expect(page.locator("#findings")).not_to_be_empty()
    end = page.get_by_role("slider", name="End of the selection")
    before = page.locator("#recording-length").inner_text()
    end.focus()
    page.keyboard.press("PageDown")
    expect(page.locator("#recording-length")).not_to_have_text(before)
    here.screenshot(f"{size}-recorded")


def _synthesize(here: Studio, size: str) -> None:
    take = here.speak(WORDS)
    here.screenshot(f"{size}-speaking")
    here.wait_until_ready(take)
    expect(take.locator(".take-facts")).to_contain_text(re.compile(r"/ 0:0\d\.\d · Your recording · .*\d\d:\d\d"))
    assert here.chunk_times()  # played automatically


def _compare(here: Studio, size: str) -> None:
    page = here.page
    page.locator("#options summary").click()
    page.locator("#temperature").fill("0.4")
    page.locator("#language").select_option("German")
    here.wait_until_ready(here.speak(WORDS))
    for number in (2, 1):
        here.choose(here.take(number), "Compare")
    expect(page.locator("#compare")).to_contain_text(
        "Language: German (A), Auto (B) · Expressiveness: 0.4 (A), Default (B)"
    )
    switch = page.get_by_role("button", name="Switch A / B")
    expect(here.take(2).get_by_label("Play Take 2")).to_be_visible()  # the automatic playback has ended
    switch.click()
    expect(here.take(2).get_by_label("Pause Take 2")).to_be_visible()
    switch.click()
    expect(here.take(1).get_by_label("Pause Take 1")).to_be_visible()
    expect(here.take(2).get_by_label("Play Take 2")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    here.screenshot(f"{size}-studio")
    page.locator(".takes").scroll_into_view_if_needed()
    here.screenshot(f"{size}-compared")


def _download(take: Locator, page: Page) -> None:
    # A manifest is in an ID3 tag, also before FLAC.
    signatures = {"wav": (b"RIFF",), "mp3": (b"ID3", b"\xff"), "flac": (b"fLaC", b"ID3"), "opus": (b"OggS",)}
    for name, begins in signatures.items():
        take.locator("summary.quiet").click()
        with page.expect_download() as download:
            take.get_by_role("button", name="Download: " if name == "wav" else f"Download {name.upper()}").click()
        assert download.value.suggested_filename == f"take-1.{name}"
        assert download.value.path().read_bytes().startswith(begins)


def _save(here: Studio, size: str) -> None:
    page = here.page
    page.locator("#save").click()
    page.locator("#save-name").fill("Nova")
    page.locator("#save-description").fill("calm, close to the microphone")
    save = page.locator("#save-dialog [type=submit]")
    save.click()
    expect(page.locator("#save-dialog")).to_be_visible()  # consent is missing
    page.locator("#save-agreed").check()
    here.screenshot(f"{size}-save")
    save.click()
    expect(page.locator("#save-dialog")).not_to_be_visible()


def _check_saved_voice(here: Studio, size: str) -> None:
    page = here.page
    kept = page.locator(".saved-voice")
    expect(kept).to_have_count(1)
    _show_saved(here)
    kept.get_by_text("Consent given").click()
    expect(kept.locator("blockquote")).to_contain_text("I agree that this recording")
    kept.get_by_role("button", name="Play the sample of Nova").click()
    kept.get_by_role("button", name="Pause the sample of Nova").click()
    page.locator("#voice-search").fill("somebody else")
    expect(page.locator("#voices-none")).to_contain_text("No voices match “somebody else”")
    page.locator("#voice-search").fill("calm")
    expect(kept).to_have_count(1)
    here.screenshot(f"{size}-shelf")


def _show_saved(here: Studio) -> None:
    if here.page.locator("#show-saved").is_visible():  # on phones
        here.page.locator("#show-saved").click()


def _rename(here: Studio) -> None:
    page = here.page
    page.get_by_label("More actions: Nova").click()
    page.get_by_role("button", name="Rename").click()
    page.locator("#rename-name").fill("Nova of the coast")
    page.locator("#rename-dialog [type=submit]").click()
    expect(page.locator(".saved-voice h3")).to_have_text("Nova of the coast")
    expect(page.locator(".saved-card h3")).to_have_text("Nova of the coast")
    _show_saved(here)


def _export(here: Studio) -> None:
    page = here.page
    page.get_by_label("More actions: Nova of the coast").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as bundle:
        assert json.loads(bundle.read("metadata.json"))["voice_id"] == "nova"
        assert bundle.read("transcription.txt").decode() == SENTENCE


def _use_saved_voice(here: Studio) -> None:
    page = here.page
    if page.locator("#show-voice").is_visible():
        page.locator("#show-voice").click()
    page.locator("#voice-again").click()
    expect(page.locator("#record")).to_be_focused()
    _show_saved(here)
    page.get_by_role("button", name="Use Nova of the coast").click()
    here.wait_until_ready(here.speak("Good morning, years later."))
    expect(here.take(3).locator(".take-facts")).to_contain_text("Nova of the coast")


def _delete(here: Studio, size: str) -> None:
    page = here.page
    _show_saved(here)
    page.get_by_label("More actions: Nova of the coast").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#confirm-what")).to_contain_text("the consent are deleted")
    here.screenshot(f"{size}-delete")
    page.locator("#confirm-dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator(".saved-voice")).to_have_count(1)
    page.get_by_label("More actions: Nova of the coast").click()
    page.get_by_role("button", name="Delete").click()
    page.locator("#confirm-submit").click()
    expect(page.locator(".saved-voice")).to_have_count(0)
    expect(page.locator("#voice-empty")).to_be_visible()
