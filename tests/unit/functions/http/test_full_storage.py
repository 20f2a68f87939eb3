"""A storage without space: 507 in every protocol, and in the health and status."""

import json
from unittest.mock import AsyncMock

from functions.access.access_control import AccessControl
from functions.http.status.health_checks import HealthChecks
from functions.http.status.prometheus import to_text
from functions.http.status.service_status import StatusReader
from functions.previews.fair_turns import FairTurns
from functions.websocket.dispatch import Dispatcher
from pipeline.access.api_keys import ANONYMOUS
from pipeline.contract.records import ReplyTo
from pipeline.errors import StorageFull
from tests.support.api import api, problem
from tests.support.fake_service import FakeService
from tests.support.speech import voice_wav

FILES = {"audio": ("a.wav", voice_wav(120.0))}


def full() -> FakeService:
    fakes = FakeService()
    fakes.fail_after(0, StorageFull)
    return fakes


async def test_preview_without_space() -> None:
    async with api(full()) as client:
        form = {"transcription": "Said.", "response_text": "Hello."}
        answer = await client.post("/preview", data=form, files=FILES)
    assert "space" in problem(answer, 507, "storage_full")["error"]
    assert answer.headers["retry-after"] == "60"


async def test_save_voice_without_space() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(0, StorageFull)
    async with api(fakes) as client:
        answer = await client.post("/voices", json={"session_id": session_id, "name": "Nova"})
    problem(answer, 507, "storage_full")


async def test_openai_error_without_space() -> None:
    async with api(full()) as client:
        answer = await client.get("/v1/audio/voices")
    assert answer.status_code == 507
    assert answer.json()["error"]["code"] == "storage_full"


async def test_websocket_error_without_space() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(0, StorageFull)
    sender = ReplyTo(endpoint="http://127.0.0.1:9", connection_id="c1=")
    message = {"type": "save_voice", "data": {"session_id": session_id, "name": "Nova"}}
    dispatcher = Dispatcher(fakes.resources, AccessControl(fakes.resources), FairTurns(slots=1))
    answer = await dispatcher.handle(sender, ANONYMOUS, json.dumps(message), AsyncMock())
    assert answer is not None
    assert answer["data"]["code"] == "storage_full"


async def test_health_without_space() -> None:
    fakes = full()
    async with api(fakes) as client:
        answer = await client.get("/health")
        assert "storage" in problem(answer, 507, "storage_full")["error"]
        fakes.recover()
        fakes.advance(seconds=1)
        assert (await client.get("/health")).json()["status"] == "ok"


async def test_status_without_space() -> None:
    fakes = full()
    status = await StatusReader(fakes.resources, HealthChecks(fakes.resources), "1").read()
    assert (status.status, status.full[:2]) == ("degraded", ["storage", "voice storage"])
    assert 'full{dependency="storage"} 1' in to_text(status)


async def test_openapi_describes_full_storage() -> None:
    async with api(FakeService()) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert "507" in paths["/preview"]["post"]["responses"]
