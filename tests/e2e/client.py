"""A client of the service, as users write one."""

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
    """Return a WAV with the harmonics of a voice at a pitch in Hz."""
    t = np.arange(int(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * pitch * n * t) / n for n in range(1, 12))
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * t)
    buffer = io.BytesIO()
    sf.write(buffer, 0.2 * envelope * sound, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def pitch_of(wav: bytes) -> float:
    """Return the fundamental frequency of a WAV in Hz, by autocorrelation."""
    samples, rate = sf.read(io.BytesIO(wav), dtype="float64")
    samples = samples[: 2 * rate]
    spectrum = np.fft.rfft(samples, 2 * len(samples))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(samples)]
    low, high = int(rate / 500), int(rate / 60)
    return float(rate / (low + int(np.argmax(correlation[low:high]))))


@dataclass(frozen=True)
class Client:
    """HTTP and WebSocket access to a running service, with an optional API key."""

    url: str
    socket_url: str
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The authorization header."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request."""
        headers = {**self.headers, **more.pop("headers", {})}
        return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=60, **more)

    def preview(self, pitch: float, text: str, **headers: str) -> httpx.Response:
        """Request a preview from a synthetic recording with this pitch."""
        return self.speak_as(recording(pitch), text, **headers)

    def speak_as(self, audio: bytes, text: str, **headers: str) -> httpx.Response:
        """Request a preview from a recording."""
        data = {"transcription": "What is said.", "response_text": text}
        return self.request("POST", "/preview", files={"audio": audio}, data=data, headers=headers)

    def speak(self, voice_id: str, text: str) -> httpx.Response:
        """Request a preview from a saved voice."""
        return self.request("POST", "/preview-from-voice", data={"voice_id": voice_id, "response_text": text})

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Get a path."""
        return self.request("GET", path, headers=headers)

    @contextmanager
    def socket(self) -> Iterator["Socket"]:
        """Open a WebSocket."""
        with connect(
            self.socket_url, max_size=None, additional_headers=self.headers, open_timeout=60
        ) as connection:
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
        """Send one message and return the next one received."""
        self.send(type_, **data)
        return self.receive()
