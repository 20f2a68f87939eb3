"""`wyoming-openai`, which connects Home Assistant to a speech API, as a client.  Only its URL is set."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from environments.venvs import LOCKS, ensure

from gpu_runner.engines.mock import MockEngine
from gpu_runner.engines.pitch import median_pitch
from infra.package.python import VERSION, find_python
from pipeline.audio.reference_audio import Recording
from pipeline.clients.resources import Resources
from tests.support.openai_service import save_voice, service

pytestmark = pytest.mark.slow

PITCH = 150.0
TEXT = "This is long enough to last for several seconds. Home Assistant would say it."


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of an environment with `wyoming-openai`, which needs a newer version than the service."""
    maker = find_python()
    if maker is None:
        pytest.skip(f"this machine has no Python {VERSION}")
    return str(ensure("wyoming-openai", LOCKS["wyoming-openai"], maker))


@dataclass
class Event:
    """An event of the Wyoming protocol: a line of JSON, then data and a payload of the stated lengths."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def to_line(self) -> bytes:
        return json.dumps({"type": self.type, "data": self.data}).encode() + b"\n"

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> "Event":
        head = json.loads(await reader.readline())
        data = head.get("data", {})
        if length := head.get("data_length"):
            data |= json.loads(await reader.readexactly(length))
        return cls(head["type"], data, await reader.readexactly(head.get("payload_length") or 0))


class Wyoming:
    """The program.  It uses standard input and output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        self._stdin, self._stdout = process.stdin, process.stdout

    async def events(self, *sent: Event, until: str) -> list[Event]:
        self._stdin.writelines([event.to_line() for event in sent])
        found: list[Event] = []
        while not found or found[-1].type != until:
            found.append(await Event.read(self._stdout))
            assert found[-1].type != "error", found[-1].data
        return found


@asynccontextmanager
async def wyoming(python: str, base_url: str, *options: str) -> AsyncIterator[Wyoming]:
    command = ["-m", "wyoming_openai", "--uri", "stdio://", "--tts-openai-url", base_url, *options]
    process = await asyncio.create_subprocess_exec(
        python,
        *command,
        env={"PATH": os.environ["PATH"]},  # without our settings, which have the same names
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        async with asyncio.timeout(60):
            yield Wyoming(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def audio_of(events: list[Event]) -> Recording:
    """Return the audio in the events."""
    start, *chunks, _ = [event for event in events if event.type.startswith("audio-")]
    assert (start.type, start.data["rate"], start.data["width"], start.data["channels"]) == (
        "audio-start",
        24_000,
        2,
        1,
    )
    samples = np.frombuffer(b"".join(chunk.payload for chunk in chunks), "<i2")
    return Recording((samples / 32768).astype(np.float32), 24_000)


async def test_synthesize_with_configured_voice(python: str, resources: Resources) -> None:
    async with service(resources, MockEngine(speed=4)) as one:
        await save_voice(one, "Nova", PITCH)
        options = ("--tts-models", "tts-1", "--tts-voices", "nova", "--tts-speed", "1.5")
        async with wyoming(python, one.base_url, *options) as program:
            events = await program.events(
                Event("synthesize", {"text": TEXT, "voice": {"name": "nova"}}), until="audio-stop"
            )
    recording = audio_of(events)
    assert len(recording.samples) / 24_000 > 2
    assert median_pitch(recording) == pytest.approx(PITCH, rel=0.05)


async def test_saved_voices_listed_and_streamed(python: str, resources: Resources) -> None:
    async with service(resources, MockEngine(speed=4)) as one:
        await save_voice(one, "Nova of Nowhere", PITCH)
        options = ("--tts-streaming-models", "tts-1")
        async with wyoming(python, one.base_url, *options) as program:
            (info,) = await program.events(Event("describe"), until="info")
            (voice,) = info.data["tts"][0]["voices"]
            assert voice["name"] == "nova-of-nowhere"
            events = await program.events(
                Event("synthesize-start", {"voice": {"name": voice["name"]}}),
                *(Event("synthesize-chunk", {"text": f"{word} "}) for word in TEXT.split()),
                Event("synthesize-stop"),
                until="synthesize-stopped",
            )
    assert median_pitch(audio_of(events)) == pytest.approx(PITCH, rel=0.05)
