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
from tests.support.fakes import Fakes, FakeTime, make_fakes, settle
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


async def test_it_is_asked_for_in_the_form_the_agent_takes(agent: FakeAgent, protection: EcsProtection) -> None:
    assert await protection.acquire()
    assert protection.is_held
    await protection.release()
    assert not protection.is_held
    assert agent.requests == [{"ProtectionEnabled": True, "ExpiresInMinutes": 10}, {"ProtectionEnabled": False}]


async def test_what_is_held_is_not_asked_for_again(agent: FakeAgent, protection: EcsProtection) -> None:
    await protection.release()
    await protection.acquire()
    await protection.acquire()
    assert agent.protection_requests == [True]


async def test_without_an_agent_there_is_nothing_to_hold() -> None:
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
async def test_an_agent_that_can_not_help_keeps_nobody_from_working(
    agent: FakeAgent, answer: dict[str, object]
) -> None:
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


async def test_an_agent_that_is_away_keeps_nobody_from_working() -> None:
    time = FakeTime()
    async with protection_for(
        Settings(ecs_agent_uri="http://127.0.0.1:9/api"), time, sleep=time.sleep
    ) as protection:
        assert await protection.acquire()
        assert not protection.is_held


@pytest.mark.parametrize("reason", ["DEPLOYMENT_BLOCKED", "TASK_NOT_VALID"])
async def test_a_task_that_ecs_wants_to_stop_is_to_receive_nothing(
    agent: FakeAgent, protection: EcsProtection, reason: str
) -> None:
    await protection.acquire()
    await protection.release()
    agent.answer = refusal(reason)
    assert not await protection.acquire()
    agent.answer = None
    assert await protection.acquire()


# the worker


async def test_it_is_taken_before_anything_is_received(fakes: Fakes, agent: FakeAgent) -> None:
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.synthesis.switch.count("receive"))
        assert agent.is_protected


async def test_an_idle_worker_can_be_stopped_between_its_polls(fakes: Fakes, agent: FakeAgent) -> None:
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


async def test_a_worker_at_work_stays_protected_for_as_long_as_it_takes(fakes: Fakes, agent: FakeAgent) -> None:
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


async def test_a_worker_that_is_refused_receives_nothing_until_it_is_not(fakes: Fakes, agent: FakeAgent) -> None:
    agent.answer = refusal("DEPLOYMENT_BLOCKED")
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await until(lambda: True in agent.protection_requests)
        await _passes(fakes, 3 * SCALE_IN_WINDOW_SECONDS)
        assert fakes.synthesis.switch.count("receive") == 0
        agent.answer = None
        await worker.advance_until_ended(request.job_id)


async def test_a_busy_worker_makes_way_when_its_renewal_is_refused(fakes: Fakes, agent: FakeAgent) -> None:
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


async def test_nothing_is_received_after_the_signal_to_stop(fakes: Fakes, agent: FakeAgent) -> None:
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


async def test_a_worker_without_storage_does_not_hold_on_to_its_protection(fakes: Fakes, agent: FakeAgent) -> None:
    await submit_upload_job(fakes.resources)
    fakes.bucket.switch.is_up = False
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.synthesis.switch.count("hide"))
        await _passes(fakes, 3)
        await until(lambda: agent.protection_requests == [True, False])
        await _passes(fakes, 60)
        assert not agent.is_protected
