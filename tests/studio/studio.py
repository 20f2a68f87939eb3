"""The studio as whoever sits before it uses it."""

import base64
import os
import re
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Request, expect

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
# Where `make screenshots` wants them; nowhere else is one kept.
SCREENSHOTS = os.environ.get("STUDIO_SCREENSHOTS")
QUALITY = 82
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# What a browser says of an answer that is no success: the tests look at what the page makes of it.
_EXPECTED = re.compile(r"Failed to load resource|WebSocket connection to .* failed")


# Of speech that is played while it is being made: when each was to begin, by the clock of the audio.
_COUNT_PIECES = """
window.pieces = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
    if (this.context instanceof AudioContext) window.pieces.push(when);
    return start.call(this, when);
};
"""


class Studio:
    """One tab with the page in it."""

    def __init__(self, browser: Browser, url: str, *, size: str = "desktop", scheme: str = "light") -> None:
        width, height = SIZES[size]
        self.url = url
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            locale="en-GB",
            has_touch=size == "phone",
            accept_downloads=True,
        )
        self.context.set_default_timeout(20_000)
        self.context.add_init_script(_COUNT_PIECES)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", self._note_error)
        self.page.on("console", self._note_console)
        self.page.on("request", self._note_request)

    def _note_error(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _note_console(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not _EXPECTED.search(said.text):
            self.complaints.append(said.text)

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "blob:")):
            self.foreign.append(request.url)

    def open(self, fragment: str = "") -> None:
        """Go to the page."""
        self.page.goto(f"{self.url}/{fragment}")

    def close(self) -> None:
        """Leave, having heard no complaint from the browser and having reached for nothing elsewhere."""
        self.context.close()
        assert self.complaints == []
        assert self.foreign == []

    def show(self, selector: str) -> Locator:
        """Wait for something to be seen."""
        found = self.page.locator(selector)
        expect(found).to_be_visible()
        return found

    def ready(self) -> None:
        """Wait until the service is reached."""
        expect(self.page.locator("#status-light")).to_have_attribute("data-light", "on")

    def record(self, seconds: float = 8.5) -> None:
        """Press the key, read, and press it again."""
        self.page.locator("#record").click()
        expect(self.page.locator("#recorder")).to_have_attribute("data-recorder", "recording")
        self.page.wait_for_timeout(1000 * seconds)
        self.page.locator("#record").click()
        self.show("#recording-wave canvas >> nth=0")

    def choose_file(self, name: str, content: bytes) -> None:
        """Choose a recording instead."""
        kind = "audio/wav" if name.endswith(".wav") else "application/octet-stream"
        self.page.locator("#file").set_input_files({"name": name, "mimeType": kind, "buffer": content})

    def speak(self, text: str) -> Locator:
        """Synthesize a text; return the new take."""
        before = self.page.locator(".take").count()
        self.page.locator("#text").fill(text)
        self.page.locator("#speak").click()
        expect(self.page.locator(".take")).to_have_count(before + 1)
        return self.page.locator(".take").first

    def take(self, number: int) -> Locator:
        """Find a take by its number."""
        return self.page.locator(".take", has=self.page.get_by_role("heading", name=f"Take {number}", exact=True))

    def is_spoken(self, take: Locator) -> None:
        """Wait until a take can be played."""
        expect(take).to_have_attribute("data-status", "ready")
        expect(take.locator(".play")).to_be_enabled()
        expect(take.locator(".waveform canvas").first).to_be_attached()

    def pieces(self) -> list[float]:
        """Return when each piece of speech was to begin that was played before its take was whole."""
        begun: list[float] = self.page.evaluate("window.pieces")
        return begun

    def enter(self, key: str) -> None:
        """Show a key."""
        self.show("#key-dialog")
        self.page.locator("#key").fill(key)
        self.page.locator("#key-dialog [type=submit]").click()

    def shot(self, name: str) -> None:
        """Keep a picture of the page as it is, where pictures are wanted."""
        if SCREENSHOTS is None:
            return
        self.page.wait_for_timeout(300)
        session = self.context.new_cdp_session(self.page)
        taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
        Path(SCREENSHOTS, f"{name}.webp").write_bytes(base64.b64decode(taken["data"]))

    def is_accessible(self) -> None:
        """Assert that axe finds nothing serious in the page as it is."""
        assert AXE.exists(), "There is no axe-core, which the tests of the studio need: make node_modules"
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (violation["id"], violation["impact"], [node["html"][:120] for node in violation["nodes"]])
            for violation in found["violations"]
            if violation["impact"] in {"serious", "critical", "moderate"}
        ]
        assert serious == []
