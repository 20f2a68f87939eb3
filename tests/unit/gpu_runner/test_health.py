"""The worker's health: what it says in each phase, and whom it asks before it says so."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import pytest
from supervision.ports import free_port

from gpu_runner.dependency_health import Dependencies
from gpu_runner.health import CONNECTIONS_MAX, CannotListen, Health, serve
from tests.support.fakes.resources import Fakes


def healthy(fakes: Fakes) -> Health:
    health = Health(fakes.resources, Dependencies(fakes.time), phase="ready", model="mock-1", in_flight=lambda: 3)
    health.dependencies.queue.succeeded()
    health.dependencies.storage.succeeded()
    return health


async def test_not_ready_while_starting_or_draining(fakes: Fakes) -> None:
    health = healthy(fakes)
    for phase in ("starting", "draining"):
        health.phase = phase
        status, facts = await health.report()
        assert (status, facts["status"]) == (503, phase)


async def test_ready_report(fakes: Fakes) -> None:
    assert await healthy(fakes).report() == (
        200,
        {"status": "ready", "backend": "mock", "model": "mock-1", "in_flight": 3},
    )


async def test_recent_answer_needs_no_ping(fakes: Fakes) -> None:
    await healthy(fakes).report()
    assert (fakes.bucket.switch.calls, fakes.synthesis.switch.calls) == ([], [])


async def test_stale_dependency_is_pinged(fakes: Fakes) -> None:
    health = healthy(fakes)
    fakes.time.now = fakes.time.now.replace(minute=5)
    status, _ = await health.report()
    assert status == 200
    assert (fakes.bucket.switch.calls, fakes.synthesis.switch.calls) == (["ping"], ["ping"])


@pytest.mark.parametrize(
    ("down", "named"),
    [
        (lambda fakes: [fakes.bucket], ["storage"]),
        (lambda fakes: [fakes.synthesis], ["queue"]),
        (lambda fakes: [fakes.bucket, fakes.synthesis], ["queue", "storage"]),
    ],
)
async def test_unreachable_dependency_named(
    fakes: Fakes, down: Callable[[Fakes], list[object]], named: list[str]
) -> None:
    health = healthy(fakes)
    fakes.time.now = fakes.time.now.replace(minute=5)
    for fake in (fakes.bucket, fakes.synthesis):
        fake.switch.is_up = fake not in down(fakes)
    status, facts = await health.report()
    assert (status, facts["status"], facts["unreachable"]) == (503, "unreachable", named)
    fakes.bucket.switch.is_up = fakes.synthesis.switch.is_up = True
    assert (await health.report())[0] == 200


async def test_live_ignores_dependencies(fakes: Fakes) -> None:
    health = healthy(fakes)
    fakes.time.now = fakes.time.now.replace(minute=5)
    fakes.bucket.switch.is_up = fakes.synthesis.switch.is_up = False
    assert (await health.report())[0] == 503
    assert health.live() == (200, {"status": "ready"})
    health.phase = "draining"
    assert health.live()[0] == 200
    health.phase = "starting"
    assert health.live()[0] == 503


async def test_health_over_http(fakes: Fakes) -> None:
    port = free_port("127.0.0.1")
    health = healthy(fakes)
    async with serve(health, port), aiohttp.ClientSession() as client:
        async with client.get(f"http://127.0.0.1:{port}/health") as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, "ready")
            assert "Server" not in answer.headers
        health.phase = "draining"
        async with client.get(f"http://127.0.0.1:{port}/health") as answer:
            assert (answer.status, (await answer.json())["status"]) == (503, "draining")
        async with client.get(f"http://127.0.0.1:{port}/live") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "draining"})


async def test_taken_port_named(fakes: Fakes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"WORKER_HEALTH_PORT={port}"):
            async with serve(healthy(fakes), port):
                pass


async def exchange(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    received = await reader.read()
    writer.close()
    return received


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /live", 200), ("HEAD /health", 200), ("GET /live?a=b", 200), ("GET /", 404), ("POST /health", 405)],
)
async def test_health_routes(fakes: Fakes, request_line: str, status: int) -> None:
    port = free_port("127.0.0.1")
    async with serve(healthy(fakes), port):
        received = await exchange(port, f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert bool(body) is not request_line.startswith("HEAD")


async def test_health_idle_connections_are_replaced(fakes: Fakes) -> None:
    port = free_port("127.0.0.1")
    async with serve(healthy(fakes), port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX + 10)]
        assert b"200 OK" in await exchange(port, b"GET /health HTTP/1.1\r\n\r\n")
        assert await idle[0][0].read() == b""  # the oldest is closed
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize("sent", [b"GET /health", b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 5000])
async def test_health_bad_request_is_closed(fakes: Fakes, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr("gpu_runner.health.CONNECTION_SECONDS", 0.1)
    port = free_port("127.0.0.1")
    async with serve(healthy(fakes), port):
        with suppress(ConnectionError):
            assert await exchange(port, sent) == b""
