"""User actions in the studio."""

import base64
import os
import re
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Request, expect

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
# The folder for screenshots, set by `make screenshots`.
SCREENSHOTS = os.environ.get("STUDIO_SCREENSHOTS")
QUALITY = 82
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# Browser messages about failed requests.  Tests check how the page handles them.
_EXPECTED = re.compile(r"Failed to load resource|WebSocket connection to .* failed")


# Records the start time of each audio chunk that is played, by the clock of the audio context.
_RECORD_CHUNK_TIMES = """
window.chunkTimes = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
    if (this.context instanceof AudioContext) {
        window.chunkTimes.push(when);
        window.streamContext = this.context;
    }
    return start.call(this, when);
};
"""


class Studio:
    """One browser tab with the studio."""

    def __init__(self, browser: Browser, url: str, *, size: str = "desktop", scheme: str = "light") -> None:
        width, height = SIZES[size]
        self.url = url
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            locale="en-GB",
            has_touch=size == "phone",
            is_mobile=size == "phone",
            accept_downloads=True,
        )
        self.context.set_default_timeout(20_000)
        self.context.add_init_script(_RECORD_CHUNK_TIMES)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.external_requests: list[str] = []
        self.page.on("pageerror", self._note_error)
        self.page.on("console", self._note_console)
        self.page.on("request", self._note_request)

    def _note_error(self, error: Error) -> None:
        self.errors.append(str(error))

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _EXPECTED.search(message.text):
            self.errors.append(message.text)

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "blob:")):
            self.external_requests.append(request.url)

    def open(self, fragment: str = "") -> None:
        """Load the page."""
        self.page.goto(f"{self.url}/{fragment}")
        # The form is enabled when the page is complete.
        expect(self.page.locator("#language option").first).to_be_attached()

    def close(self) -> None:
        """Close the tab.  Assert that there were no browser errors and no requests to other origins."""
        self.context.close()
        assert self.errors == []
        assert self.external_requests == []

    def show(self, selector: str) -> Locator:
        """Wait until an element is visible."""
        found = self.page.locator(selector)
        expect(found).to_be_visible()
        return found

    def wait_until_connected(self) -> None:
        """Wait until the page is connected to the service."""
        expect(self.page.locator("#status-light")).to_have_attribute("data-light", "on")

    def record(self, seconds: float = 8.5) -> None:
        """Record from the microphone."""
        self.page.locator("#record").click()
        expect(self.page.locator("#recorder")).to_have_attribute("data-recorder", "recording")
        self.page.wait_for_timeout(1000 * seconds)
        self.page.locator("#record").click()
        self.show("#recording-wave canvas >> nth=0")

    def choose_file(self, name: str, content: bytes) -> None:
        """Choose a recording from a file, and wait until it is shown or refused."""
        kind = "audio/wav" if name.endswith(".wav") else "application/octet-stream"
        self.page.locator("#file").set_input_files({"name": name, "mimeType": kind, "buffer": content})
        expect(self.page.locator("#recording-wave canvas, #notice").filter(visible=True).first).to_be_visible()

    def choose(self, take: Locator, action: str) -> None:
        """Choose an action of a take's menu."""
        take.locator("summary.quiet").click()
        take.get_by_role("button", name=action).click()

    def start_over(self) -> None:
        """Discard the recording."""
        self.page.get_by_role("button", name="Start over").click()
        self.page.get_by_role("button", name="Discard", exact=True).click()

    def save_voice(self, name: str) -> None:
        """Save the recording as a voice."""
        self.page.locator("#save").click()
        self.page.locator("#save-name").fill(name)
        self.page.locator("#save-agreed").check()
        self.page.locator("#save-dialog [type=submit]").click()

    def speak(self, text: str) -> Locator:
        """Synthesize a text and return the new take."""
        before = self.page.locator(".take").count()
        self.page.locator("#text").fill(text)
        self.page.locator("#speak").click()
        expect(self.page.locator(".take")).to_have_count(before + 1)
        return self.page.locator(".take").first

    def take(self, number: int) -> Locator:
        """Return a take by its number."""
        return self.page.locator(".take", has=self.page.get_by_role("heading", name=re.compile(rf"Take {number}$")))

    def wait_until_ready(self, take: Locator) -> None:
        """Wait until a take can be played."""
        expect(take).to_have_attribute("data-status", "ready")
        expect(take.locator(".play")).to_be_enabled()
        expect(take.locator(".waveform canvas").first).to_be_attached()

    def chunk_times(self) -> list[float]:
        """Return the start times of the chunks that were played during synthesis."""
        times: list[float] = self.page.evaluate("window.chunkTimes")
        return times

    def enter_key(self, key: str) -> None:
        """Enter an API key."""
        self.show("#key-dialog")
        self.page.locator("#key").fill(key)
        self.page.locator("#key-dialog [type=submit]").click()

    def screenshot(self, name: str) -> None:
        """Save a screenshot, if a folder is set."""
        if SCREENSHOTS is None:
            return
        self.page.wait_for_timeout(300)
        session = self.context.new_cdp_session(self.page)
        captured = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
        Path(SCREENSHOTS, f"{name}.webp").write_bytes(base64.b64decode(captured["data"]))

    def check_accessibility(self) -> None:
        """Assert that axe finds no violations of moderate or higher impact."""
        assert AXE.exists(), "axe-core is missing.  Run: make node_modules"
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (violation["id"], violation["impact"], [node["html"][:120] for node in violation["nodes"]])
            for violation in found["violations"]
            if violation["impact"] in {"serious", "critical", "moderate"}
        ]
        assert serious == []
