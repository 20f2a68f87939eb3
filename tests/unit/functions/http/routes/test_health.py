"""The health route."""

import asyncio

import pytest
from aiohttp import web
from supervision.ports import free_port

from pipeline.settings import Backend, Settings
from tests.support.api import api, problem
from tests.support.fake_service import FakeService
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.queue import FakeQueue


async def test_health_names_unreachable() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        assert (await client.get("/health")).json()["status"] == "ok"
        neighbours: list[tuple[FakeBucket | FakeQueue, str]] = [
            (fakes.bucket, "storage"),
            (fakes.voices, "voice storage"),
            (fakes.synthesis, "synthesis queue"),
        ]
        for neighbour, name in neighbours:
            fakes.advance(seconds=1)
            neighbour.switch.is_up = False
            answer = await client.get("/health")
            assert problem(answer, 503, "unavailable")["error"] == f"Can't reach: {name}."
            assert answer.headers["retry-after"]
            neighbour.switch.is_up = True


async def test_health_cached_for_a_second() -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        for _ in range(3):
            answers = await asyncio.gather(*(client.get("/health") for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            fakes.advance(seconds=0.4)
    asked = [neighbour.switch.calls for neighbour in (fakes.bucket, fakes.voices, fakes.synthesis)]
    assert asked == [["ping"]] * 3


async def test_health_includes_worker() -> None:
    port = free_port("127.0.0.1")
    fakes = FakeService(Settings(worker_health_url=f"http://127.0.0.1:{port}/health"))

    start = {"phase": "downloading", "bytes": 7, "total_bytes": 9, "error": "The hub is down."}

    async def starting(_request: web.Request) -> web.Response:
        return web.json_response({"status": "starting", "engine_start": start}, status=503)

    worker = web.Application()
    worker.router.add_get("/health", starting)
    runner = web.AppRunner(worker)
    await runner.setup()
    async with api(fakes) as client:
        assert (await client.get("/health")).json()["worker"] == "unreachable"
        await web.TCPSite(runner, "127.0.0.1", port).start()
        fakes.advance(seconds=1)
        answer = await client.get("/health")
        assert (answer.status_code, answer.json()["worker"]) == (200, "starting")
        assert answer.json()["engine_start"] == start
        status = (await client.get("/status")).json()
        assert (status["status"], status["engine_start"]["error"]) == ("degraded", "The hub is down.")
    await runner.cleanup()


@pytest.mark.parametrize(("backend", "clones"), [("qwen", True), ("hibari", False), ("mock", False)])
async def test_health_describes_engine(backend: Backend, clones: bool) -> None:
    async with api(FakeService(Settings(tts_backend=backend))) as client:
        engine = (await client.get("/health")).json()["engine"]
    assert (engine["name"], engine["clones"]) == (backend, clones)
    assert ("notice" in engine) is not clones
