"""Chromium with a fake microphone that plays a recording of speech."""

import io
import shutil
import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

SENTENCE = (
    "On Sunday morning we took the early train to the coast, walked along the harbour for an hour, "
    "and had fresh bread with cheese while the boats came in."
)
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


def _found(program: str) -> str:
    path = shutil.which(program)
    assert path, f"There is no {program}, which the tests of the studio need; on Debian: apt-get install {program}"
    return path


def speech(text: str = SENTENCE, *, pause_seconds: float = 0.6, gain: float = 1.0) -> bytes:
    """Return a WAV of a text spoken by espeak-ng, with a pause before and after it."""
    command = [_found("espeak-ng"), "-v", "en-us+f3", "-s", "150", "--stdout", text]
    spoken = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    # The WAV header has no length because espeak-ng writes to a pipe.
    rate = int.from_bytes(spoken[24:28], "little")
    samples = memoryview(spoken[44 : 44 + (len(spoken) - 44) // 2 * 2]).cast("h")
    scaled = [max(-32_768, min(32_767, round(gain * sample))) for sample in samples]
    return wav_of([0] * int(pause_seconds * rate) + scaled + [0] * int(pause_seconds * rate), rate)


def wav_of(samples: list[int], rate: int) -> bytes:
    """Return 16-bit mono WAV."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
    return buffer.getvalue()


@contextmanager
def chromium(microphone: Path) -> Iterator[Browser]:
    """Run a browser with a microphone that repeats a WAV file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_found("chromium"),
            args=[*_FLAGS, f"--use-file-for-fake-audio-capture={microphone}"],
        )
        yield browser
        browser.close()
