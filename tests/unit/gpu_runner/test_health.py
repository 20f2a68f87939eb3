"""The worker's health: what it says in each phase, and whom it asks before it says so."""

import socket
from collections.abc import Callable

import aiohttp
import pytest
from supervision.ports import free_port

from gpu_runner.dependencies import Dependencies
from gpu_runner.health import CannotListen, Health, serve
from tests.fakes import Fakes


def healthy(world: Fakes) -> Health:
    health = Health(world.resources, Dependencies(world.time), phase="ready", model="mock-1", in_flight=lambda: 3)
    health.dependencies.queue.succeeded()
    health.dependencies.storage.succeeded()
    return health


async def test_starting_and_draining_are_not_ready(world: Fakes) -> None:
    health = healthy(world)
    for phase in ("starting", "draining"):
        health.phase = phase
        status, facts = await health.report()
        assert (status, facts["status"]) == (503, phase)


async def test_ready_says_what_it_has_and_does(world: Fakes) -> None:
    assert await healthy(world).report() == (
        200,
        {"status": "ready", "backend": "mock", "model": "mock-1", "in_flight": 3},
    )


async def test_nobody_is_asked_who_answered_lately(world: Fakes) -> None:
    await healthy(world).report()
    assert (world.bucket.switch.calls, world.synthesis.switch.calls) == ([], [])


async def test_who_has_been_silent_is_asked(world: Fakes) -> None:
    health = healthy(world)
    world.time.now = world.time.now.replace(minute=5)
    status, _ = await health.report()
    assert status == 200
    assert (world.bucket.switch.calls, world.synthesis.switch.calls) == (["ping"], ["ping"])


@pytest.mark.parametrize(
    ("down", "named"),
    [
        (lambda world: [world.bucket], ["storage"]),
        (lambda world: [world.synthesis], ["queue"]),
        (lambda world: [world.bucket, world.synthesis], ["queue", "storage"]),
    ],
)
async def test_who_does_not_answer_is_named(
    world: Fakes, down: Callable[[Fakes], list[object]], named: list[str]
) -> None:
    health = healthy(world)
    world.time.now = world.time.now.replace(minute=5)
    for fake in (world.bucket, world.synthesis):
        fake.switch.is_up = fake not in down(world)
    status, facts = await health.report()
    assert (status, facts["status"], facts["unreachable"]) == (503, "unreachable", named)
    world.bucket.switch.is_up = world.synthesis.switch.is_up = True
    assert (await health.report())[0] == 200


async def test_a_worker_is_alive_once_it_can_speak_whoever_else_answers(world: Fakes) -> None:
    health = healthy(world)
    world.time.now = world.time.now.replace(minute=5)
    world.bucket.switch.is_up = world.synthesis.switch.is_up = False
    assert (await health.report())[0] == 503
    assert health.live() == (200, {"status": "ready"})
    health.phase = "draining"
    assert health.live()[0] == 200
    health.phase = "starting"
    assert health.live()[0] == 503


async def test_it_is_served_over_http(world: Fakes) -> None:
    port = free_port("127.0.0.1")
    health = healthy(world)
    async with serve(health, port), aiohttp.ClientSession() as client:
        async with client.get(f"http://127.0.0.1:{port}/health") as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, "ready")
            assert "Server" not in answer.headers
        health.phase = "draining"
        async with client.get(f"http://127.0.0.1:{port}/health") as answer:
            assert (answer.status, (await answer.json())["status"]) == (503, "draining")
        async with client.get(f"http://127.0.0.1:{port}/live") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "draining"})


async def test_a_port_that_is_taken_is_named(world: Fakes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"WORKER_HEALTH_PORT={port}"):
            async with serve(healthy(world), port):
                pass
