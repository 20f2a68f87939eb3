"""Verification of files, checks of recordings by the service, spoken consent, and import of voices.

The responses of the routes are fixed, because the detectors and recognizers are optional packages.
"""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Route, expect

from tests.e2e.stack import Stack
from tests.studio.browser import speech
from tests.studio.studio import Studio

# One worker, because a browser that records and plays audio needs a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("studio")]

TEXT = "The weather is fine today, and we walk along the river until the evening comes."
STATEMENT = "I, Ann Smith, agree that my voice is cloned for audio books. 4 7 1 1 0 8."
MARKED = {
    "is_marked": True,
    "watermark": {"available": True, "detected": True, "score": 0.98},
    "manifest": {
        "present": True,
        "valid": True,
        "trusted": False,
        "signer": "Studio test",
        "created_at": "2026-11-29T13:45:00Z",
    },
    "job_id": "0" * 32,
    "voice_id": "nova",
    "matched_by": "manifest",
}
UNMARKED = {
    "is_marked": False,
    "watermark": {"available": False, "detected": False, "score": 0},
    "manifest": None,
    "job_id": None,
    "voice_id": None,
    "matched_by": None,
}


def _answer(here: Studio, path: str, *answers: dict[str, Any]) -> list[str]:
    """Answer requests to a route with these bodies, in turn.  Return the list of the sent bodies."""
    sent: list[str] = []

    def fulfill(route: Route) -> None:
        sent.append((route.request.post_data_buffer or b"").decode(errors="replace"))
        route.fulfill(json=answers[min(len(sent), len(answers)) - 1])

    here.page.route(f"{here.url}/{path}", fulfill)
    return sent


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (
            MARKED,
            ["is marked as synthetic", "Watermark found (98 %)", "unknown signer (Studio test)", "Voice: nova"],
        ),
        (UNMARKED, ["No marks found", "can't check watermarks", "No content credentials"]),
    ],
    ids=["marked", "unmarked"],
)
def test_verified_file_is_described(
    answer: dict[str, Any], lines: list[str], studio: Callable[..., Studio], open_stack: Stack
) -> None:
    here = studio(open_stack.url)
    _answer(here, "verify", answer)
    here.open()
    here.page.get_by_role("link", name="Verify").click()
    file: FilePayload = {"name": "found.wav", "mimeType": "audio/wav", "buffer": speech("Found somewhere.")}
    here.page.locator("#verify-file").set_input_files(file)
    for line in lines:
        expect(here.page.locator("#verify-result")).to_contain_text(line)
    here.check_accessibility()
    here.screenshot("verify-marked" if answer is MARKED else "verify-unmarked")


def test_downloaded_take_is_marked(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    here.wait_until_ready(here.speak("Marked as synthetic."))
    with here.page.expect_download() as download:
        here.take(1).get_by_role("button", name="Download").click()
    here.page.get_by_role("link", name="Verify").click()
    here.page.locator("#verify-file").set_input_files(download.value.path())
    expect(here.page.locator("#verify-result")).to_contain_text("is marked as synthetic")
    expect(here.page.locator("#verify-result")).to_contain_text("Content credentials of an unknown signer")
    expect(here.page.locator("#verify-result")).to_contain_text("Job: ")


def test_recording_is_checked_by_service(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    warning = {"code": "noise", "message": "The recording has background noise.", "advice": "Use a quiet room."}
    suggestion = {"warnings": [warning], "measures": {}, "suggested_transcription": TEXT, "session_id": "0" * 32}
    good: dict[str, Any] = {"warnings": [], "measures": {}, "suggested_transcription": None, "session_id": "0" * 32}
    sent = _answer(here, "references/check", suggestion, good)
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    here.page.locator("#check").click()
    expect(here.page.locator("#findings")).to_contain_text("The recording has background noise. Use a quiet room.")
    expect(here.page.locator("#findings")).to_contain_text("Transcript suggested")
    expect(here.page.locator("#transcript")).to_have_value(TEXT)
    here.screenshot("recording-checked")
    here.page.locator("#check").click()
    expect(here.page.locator("#findings")).to_have_text("Checked by the service: no problems found")
    assert all('name="session_id"' in body for body in sent)


def test_unread_transcript_is_found(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    here.page.locator("#transcript").fill(
        "My neighbour keeps a small workshop, where she repairs old clocks and watches."
    )
    expect(here.page.locator("#findings")).to_have_text("Good recording")  # it has the right length
    here.page.locator("#check").click()
    expect(here.page.locator("#findings")).to_contain_text("transcription", timeout=60_000)
    here.screenshot("transcript-mismatch")


def test_consent_is_read_aloud(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    links = {"receipt_url": f"{here.url}/receipt", "revocation_url": f"{here.url}/revocation"}
    consent = {"consent_id": "c1", "statement": STATEMENT, "status": "unverified", "check": None}
    created = _answer(here, "consents", consent | links)
    recorded = _answer(here, "consents/c1/recording", consent)
    _answer(here, "consents/c1", consent, consent | {"status": "verified"})
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    page = here.page
    page.locator("#save").click()
    page.get_by_text("Spoken consent").click()
    page.locator("#consent-create").click()
    expect(page.locator("#consent-person")).to_be_focused()
    page.locator("#consent-person").fill("Ann Smith")
    page.locator("#consent-purpose").fill("Audio books")
    page.locator("#consent-create").click()
    expect(page.locator("#consent-statement")).to_have_text(STATEMENT)
    expect(page.locator("#consent-links a")).to_have_count(2)
    assert '"purposes":["Audio books"]' in created[0]
    page.locator("#consent-record").click()
    expect(page.locator("#consent-record")).to_have_text("Stop recording")
    page.wait_for_timeout(1500)
    page.locator("#consent-record").click()
    expect(page.locator("#consent-status")).to_have_text("Consent verified")
    assert "RIFF" in recorded[0]
    here.screenshot("consent-read")
    here.check_accessibility()


def test_other_words_are_no_consent(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.choose_file("mine.wav", speech(TEXT))
    page = here.page
    page.locator("#save").click()
    page.get_by_text("Spoken consent").click()
    page.locator("#consent-person").fill("Ann Smith")
    page.locator("#consent-purpose").fill("Audio books")
    page.locator("#consent-create").click()
    expect(page.locator("#consent-statement")).to_contain_text("Ann Smith")
    page.locator("#consent-record").click()
    expect(page.locator("#consent-record")).to_have_text("Stop recording")
    page.wait_for_timeout(4000)
    page.locator("#consent-record").click()
    expect(page.locator("#consent-status")).to_contain_text("Consent stored, but not verified", timeout=60_000)


def test_exported_voice_is_imported(studio: Callable[..., Studio], open_stack: Stack) -> None:
    here = studio(open_stack.url)
    here.open()
    here.wait_until_connected()
    here.choose_file("mine.wav", speech(TEXT))
    here.save_voice("Exported")
    row = here.page.locator(".saved-voice").filter(has_text="Exported")
    row.locator("summary.quiet").click()
    with here.page.expect_download() as download:
        row.get_by_role("button", name="Export", exact=True).click()
    row.locator("summary.quiet").click()
    row.get_by_role("button", name="Delete", exact=True).click()
    here.page.locator("#confirm-submit").click()
    expect(row).to_have_count(0)
    here.page.locator("#import").set_input_files(download.value.path())
    expect(here.page.locator("#announcer")).to_have_text("Exported is imported.")
    expect(row).to_have_count(1)
