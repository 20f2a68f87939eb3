"""A client of the service, as a user would write one."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import soundfile as sf
from websockets.sync.client import ClientConnection, connect

Message = dict[str, Any]


def recording(pitch: float, seconds: float = 2.0, rate: int = 16_000) -> bytes:
    """Make a recording with a voice's harmonics at a pitch in Hz."""
    t = np.arange(int(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * pitch * n * t) / n for n in range(1, 12))
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * t)
    buffer = io.BytesIO()
    sf.write(buffer, 0.2 * envelope * sound, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def pitch_of(wav: bytes) -> float:
    """Find the fundamental of a recording in Hz, by its autocorrelation."""
    samples, rate = sf.read(io.BytesIO(wav), dtype="float64")
    samples = samples[: 2 * rate]
    spectrum = np.fft.rfft(samples, 2 * len(samples))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(samples)]
    low, high = int(rate / 500), int(rate / 60)
    return float(rate / (low + int(np.argmax(correlation[low:high]))))


@dataclass
class Client:
    """HTTP and WebSocket access to a running service."""

    url: str

    def preview(self, pitch: float, text: str, **headers: str) -> httpx.Response:
        """Upload a recording of that pitch and let it speak."""
        return httpx.post(
            f"{self.url}/preview",
            files={"audio": ("voice.wav", recording(pitch), "audio/wav")},
            data={"transcription": "What is said.", "response_text": text},
            headers=headers,
            timeout=60,
        )

    def speak(self, voice_id: str, text: str) -> httpx.Response:
        """Let a saved voice speak."""
        data = {"voice_id": voice_id, "response_text": text}
        return httpx.post(f"{self.url}/preview-from-voice", data=data, timeout=60)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Get a path."""
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=30)

    @contextmanager
    def socket(self) -> Iterator["Socket"]:
        """Open a WebSocket."""
        with connect(f"{self.url.replace('http', 'ws')}/ws", max_size=None) as connection:
            yield Socket(connection)


@dataclass
class Socket:
    """An open WebSocket."""

    connection: ClientConnection

    def send(self, type_: str, **data: Any) -> None:
        """Send one message."""
        self.connection.send(json.dumps({"type": type_, "data": data}))

    def receive(self, seconds: float = 30) -> Message:
        """Wait for the next message."""
        message: Message = json.loads(self.connection.recv(timeout=seconds))
        return message

    def ask(self, type_: str, **data: Any) -> Message:
        """Send one message and wait for the next that comes."""
        self.send(type_, **data)
        return self.receive()
