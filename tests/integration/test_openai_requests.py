"""Requests of applications for OpenAI's API, as in their source code."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gpu_runner.engines.pitch import median_pitch
from pipeline.clients.resources import Resources
from tests.support.openai_service import Service, decoded, save_voice, service

PITCH = 150.0
TEXT = "A chapter of a story, which is read aloud while its reader does something else."


@dataclass(frozen=True)
class Application:
    """The speech request of an application: body and headers."""

    name: str
    body: dict[str, Any]
    headers: dict[str, str]


APPLICATIONS = [
    Application(
        "SillyTavern, OpenAI Compatible, without a key",
        {"input": TEXT, "response_format": "mp3", "voice": "Nova", "speed": 1, "model": "tts-1"},
        {"Content-Type": "application/json", "Authorization": "Bearer "},
    ),
    Application(
        "SillyTavern, slower",
        {"input": TEXT, "response_format": "mp3", "voice": "nova", "speed": 0.85, "model": "tts-1-hd"},
        {"Content-Type": "application/json", "Authorization": "Bearer sk-anything"},
    ),
    Application(
        "Open WebUI, default settings",
        {"model": "tts-1", "input": TEXT, "voice": "nova"},
        {"Content-Type": "application/json", "Authorization": "Bearer ", "Accept": "*/*"},
    ),
    Application(
        "Open WebUI, with additional parameters and user headers",
        {"input": TEXT, "voice": "nova", "model": "gpt-4o-mini-tts", "instructions": "Calm.", "speed": 1.25},
        {
            "Content-Type": "application/json",
            "Authorization": "Bearer sk-anything",
            "X-OpenWebUI-User-Name": "Ada",
            "X-OpenWebUI-User-Id": "1",
            "X-OpenWebUI-User-Email": "ada@example.com",
            "X-OpenWebUI-User-Role": "admin",
        },
    ),
]


@pytest.fixture
async def running(resources: Resources) -> AsyncIterator[Service]:
    async with service(resources) as one:
        await save_voice(one, "Nova", PITCH)
        yield one


@pytest.fixture
async def client(running: Service) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that sends an empty key, as Open WebUI does."""
    async with aiohttp.ClientSession(running.url, headers={"Authorization": "Bearer "}) as client:
        yield client


async def test_applications_receive_mp3(client: aiohttp.ClientSession) -> None:
    for application in APPLICATIONS:
        body, headers = application.body, application.headers
        async with client.post("/v1/audio/speech", json=body, headers=headers) as response:
            assert response.status == 200, (application.name, await response.text())
            assert response.content_type == "audio/mpeg"
            assert median_pitch(decoded(await response.read(), "mp3")) == pytest.approx(PITCH, rel=0.05)


async def test_open_webui_lists_models_and_voices(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/audio/models") as models, client.get("/v1/audio/voices") as voices:
        assert "tts-1" in [model["id"] for model in (await models.json())["models"]]
        assert {voice["id"]: voice["name"] for voice in (await voices.json())["voices"]} == {"nova": "Nova"}


async def test_open_webui_unknown_voice(client: aiohttp.ClientSession) -> None:
    body = {"model": "tts-1", "input": TEXT, "voice": "alloy"}
    async with client.post("/v1/audio/speech", json=body) as response:
        assert response.status == 404
        assert (await response.json())["error"]["message"].startswith("There is no voice 'alloy'")


async def test_wyoming_openai_probes(client: aiohttp.ClientSession) -> None:
    """`wyoming-openai` detects LocalAI by `/readyz`, Speaches by `/health` and Kokoro-FastAPI by `/test`.

    It has to detect Kokoro-FastAPI, and then lists the voices.
    """
    async with client.get("/v1/readyz") as response:
        assert response.status == 404
    async with client.get("/health") as response:
        assert await response.text() != "OK"
    async with client.get("/v1/test") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    async with client.get("/v1/models/tts-1") as response:  # as in Speaches
        assert [voice["name"] for voice in (await response.json())["voices"]] == ["nova"]
