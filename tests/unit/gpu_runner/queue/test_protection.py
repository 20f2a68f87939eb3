"""A worker's protection from being stopped: when it is taken, renewed and given up, and what a refusal does."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gpu_runner.queue.protection import (
    RENEW_SECONDS,
    RETRY_SECONDS,
    SCALE_IN_WINDOW_SECONDS,
    EcsProtection,
    protection_for,
)
from pipeline.domain import jobs
from pipeline.settings import Settings
from tests.support.ecs_agent import FakeAgent, error, fake_agent, refusal
from tests.support.engines import ScriptedEngine
from tests.support.fakes.clock import FakeTime, settle
from tests.support.fakes.resources import Fakes, make_fakes
from tests.support.job_requests import submit_upload_job
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


@pytest.fixture
async def agent() -> AsyncIterator[FakeAgent]:
    async with fake_agent() as agent:
        yield agent


@pytest.fixture
def fakes(settings: Settings, agent: FakeAgent) -> Fakes:
    return make_fakes(settings.model_copy(update={"ecs_agent_uri": agent.url}))


@pytest.fixture
async def protection(agent: FakeAgent) -> AsyncIterator[EcsProtection]:
    time = FakeTime()
    async with protection_for(Settings(ecs_agent_uri=agent.url), time, sleep=time.sleep) as protection:
        assert isinstance(protection, EcsProtection)
        yield protection


async def _passes(fakes: Fakes, seconds: float) -> None:
    """Advance the clock in steps, with real time in between for the agent's responses."""
    for _ in range(round(seconds)):
        await fakes.time.advance(1)
        await until(lambda: True)


# what the agent is asked


async def test_agent_request_format(agent: FakeAgent, protection: EcsProtection) -> None:
    assert await protection.acquire()
    assert protection.is_held
    await protection.release()
    assert not protection.is_held
    assert agent.requests == [{"ProtectionEnabled": True, "ExpiresInMinutes": 10}, {"ProtectionEnabled": False}]


async def test_held_protection_not_requested(agent: FakeAgent, protection: EcsProtection) -> None:
    await protection.release()
    await protection.acquire()
    await protection.acquire()
    assert agent.protection_requests == [True]


async def test_no_agent() -> None:
    time = FakeTime()
    async with protection_for(Settings(), time, sleep=time.sleep) as protection:
        assert await protection.acquire()
        assert not protection.is_held


@pytest.mark.parametrize(
    "answer",
    [
        error("ThrottlingException", "Rate exceeded"),
        error("RequestCanceled", "Timed out calling Amazon ECS Task Protection API"),
        refusal("TASK_NOT_VALID"),
        {"message": "something else"},
    ],
)
async def test_agent_error_is_ignored(agent: FakeAgent, answer: dict[str, object]) -> None:
    time = FakeTime()
    agent.answer = answer
    async with protection_for(Settings(ecs_agent_uri=agent.url), time, sleep=time.sleep) as protection:
        with capture_logs() as logs:
            assert await protection.acquire()
            assert await protection.acquire()
            assert len(agent.requests) == 1
            await time.advance(RETRY_SECONDS)
            agent.answer = None
            assert await protection.acquire()
    assert agent.is_protected
    assert [(entry["event"], entry["dependency"]) for entry in logs if "dependency" in entry] == [
        ("dependency unavailable", "ECS agent"),
        ("dependency available again", "ECS agent"),
    ]


async def test_agent_outage_is_ignored() -> None:
    time = FakeTime()
    async with protection_for(
        Settings(ecs_agent_uri="http://127.0.0.1:9/api"), time, sleep=time.sleep
    ) as protection:
        assert await protection.acquire()
        assert not protection.is_held


@pytest.mark.parametrize("reason", ["DEPLOYMENT_BLOCKED", "TASK_NOT_VALID"])
async def test_refused_task_receives_nothing(agent: FakeAgent, protection: EcsProtection, reason: str) -> None:
    await protection.acquire()
    await protection.release()
    agent.answer = refusal(reason)
    assert not await protection.acquire()
    agent.answer = None
    assert await protection.acquire()


# the worker


async def test_protection_before_receive(fakes: Fakes, agent: FakeAgent) -> None:
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.synthesis.switch.count("receive"))
        assert agent.is_protected


async def test_idle_worker_releases_protection(fakes: Fakes, agent: FakeAgent) -> None:
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.synthesis.switch.count("receive") == 1)
        await fakes.time.advance(20)
        await until(lambda: agent.protection_requests == [True, False])
        await settle()
        await fakes.time.advance(SCALE_IN_WINDOW_SECONDS - 0.1)
        assert fakes.synthesis.switch.count("receive") == 1
        await fakes.time.advance(0.1)
        await until(lambda: fakes.synthesis.switch.count("receive") == 2)
        assert agent.protection_requests == [True, False, True]


async def test_busy_worker_stays_protected(fakes: Fakes, agent: FakeAgent) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        await _passes(fakes, 3 * RENEW_SECONDS)
        await until(lambda: agent.protection_requests == [True] * 4)
        assert agent.is_protected
        engine.paused = False
        await worker.until_ended(request.job_id)


async def test_refused_worker_waits(fakes: Fakes, agent: FakeAgent) -> None:
    agent.answer = refusal("DEPLOYMENT_BLOCKED")
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await until(lambda: True in agent.protection_requests)
        await _passes(fakes, 3 * SCALE_IN_WINDOW_SECONDS)
        assert fakes.synthesis.switch.count("receive") == 0
        agent.answer = None
        await worker.advance_until_ended(request.job_id)


async def test_refused_renewal_drains_worker(fakes: Fakes, agent: FakeAgent) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    first = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        agent.answer = refusal("DEPLOYMENT_BLOCKED")
        await _passes(fakes, RENEW_SECONDS + 20)
        received = fakes.synthesis.switch.count("receive")
        second = await submit_upload_job(fakes.resources)
        await _passes(fakes, SCALE_IN_WINDOW_SECONDS)
        assert False not in agent.protection_requests
        engine.paused = False
        await worker.until_ended(first.job_id)
        await _passes(fakes, 2 * SCALE_IN_WINDOW_SECONDS)
        await until(lambda: False in agent.protection_requests)
        assert fakes.synthesis.switch.count("receive") == received
        assert await jobs.read_outcome(fakes.resources, second.job_id) is None


async def test_nothing_received_after_stop(fakes: Fakes, agent: FakeAgent) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active and fakes.synthesis.switch.count("receive") == 2)
        worker.stop.set()
        await _passes(fakes, 3)
        await submit_upload_job(fakes.resources)
        await _passes(fakes, 60)
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert agent.is_protected
    assert fakes.synthesis.switch.count("receive") == 2
    assert len(fakes.synthesis.visible) == 1


async def test_storage_outage_releases_protection(fakes: Fakes, agent: FakeAgent) -> None:
    await submit_upload_job(fakes.resources)
    fakes.bucket.switch.is_up = False
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.synthesis.switch.count("hide"))
        await _passes(fakes, 3)
        await until(lambda: agent.protection_requests == [True, False])
        await _passes(fakes, 60)
        assert not agent.is_protected
