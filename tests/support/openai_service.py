"""The real server and a worker in one process, for clients of OpenAI's API."""

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import av
import numpy as np
from openai import AsyncOpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.local.server import local_app
from gpu_runner.engines import Engine
from gpu_runner.engines.mock import MockEngine
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.clients.resources import Resources
from tests.support.http_server import run_server
from tests.support.speech import voice_wav
from tests.support.workers import real_time_worker


@dataclass
class Traffic:
    """Middleware that records the requests."""

    app: ASGIApp
    requests: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.requests.append(f"{scope['method']} {scope['path']}")
        await self.app(scope, receive, send)


@dataclass(frozen=True)
class Service:
    """The URL of the service, and the requests that it received."""

    url: str
    traffic: Traffic

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def client(self, key: str = "any string", *, timeout: float = 30) -> AsyncOpenAI:
        """Return a client with a URL and a key, and default options otherwise."""
        return AsyncOpenAI(base_url=self.base_url, api_key=key, timeout=timeout)


@asynccontextmanager
async def service(resources: Resources, engine: Engine | None = None) -> AsyncIterator[Service]:
    """Serve the API, with a worker."""
    traffic = Traffic(local_app(resources.settings))
    async with run_server(traffic) as url, real_time_worker(resources, engine or MockEngine()):
        yield Service(url, traffic)


async def save_voice(running: Service, name: str, pitch: float) -> str:
    """Save a voice with a pitch in Hz; return its id."""
    sample = ("sample.wav", voice_wav(pitch, seconds=3), "audio/wav")
    async with running.client() as client:
        voice = await client.audio.voices.create(name=name, audio_sample=sample, consent="I agree to be cloned.")
    return voice.id


def decoded(body: bytes, format_: str | None = None) -> Recording:
    """Return the audio in a file."""
    with av.open(io.BytesIO(body), "r", format=format_) as file:
        rate = file.streams.audio[0].rate
        samples = np.concatenate(list(_mono(file)))
    return Recording(samples, rate)


def _mono(file: av.container.InputContainer) -> Iterator[Samples]:
    resampler = av.AudioResampler(format="flt", layout="mono")
    for frame in file.decode(audio=0):
        for part in resampler.resample(frame):
            yield part.to_ndarray().reshape(-1).astype(np.float32)
