"""`python -m gpu_runner` as a process: start, stop, exit status and log."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import pytest
from supervision.ports import free_port

from pipeline.clients.resources import Resources
from pipeline.contract.records import Source
from pipeline.domain import acceptance, jobs
from pipeline.settings import Settings
from tests.support.ecs_agent import FakeAgent, fake_agent
from tests.support.job_requests import (
    TEXT,
    TRANSCRIPTION,
    make_request,
    store_upload,
    submit_upload_job,
    success_of,
)
from tests.support.moto_server import provisioned
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on Unix")


def environment(settings: Settings, **more: str) -> Mapping[str, str]:
    return {
        **os.environ,
        "TTS_BACKEND": "mock",
        "AWS_ENDPOINT_URL": settings.aws_endpoint_url or "",
        "BUCKET": settings.bucket,
        "VOICES_BUCKET": settings.bucket_for_voices,
        "SYNTHESIS_QUEUE": settings.synthesis_queue,
        "RECEIVE_WAIT_SECONDS": "1",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        **more,
    }


@asynccontextmanager
async def worker(env: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gpu_runner", env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def log_until(process: asyncio.subprocess.Process, event: str) -> list[dict[str, object]]:
    """Read log lines up to and including the one of this event."""
    assert process.stderr is not None
    lines: list[dict[str, object]] = []
    async with asyncio.timeout(30):
        while not lines or lines[-1]["event"] != event:
            line = await process.stderr.readline()
            assert line, lines
            lines.append(json.loads(line))
    return lines


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Wait until the process ends.  Return the exit status and the output."""
    async with asyncio.timeout(15):
        out, err = await process.communicate()
    assert out == b""
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_log_has_correlation_id_and_no_text(resources: Resources) -> None:
    session_id = await store_upload(resources)
    request = make_request(resources, Source(session_id=session_id), session_id, correlation_id="corr-1")
    await acceptance.accept(resources, request)
    async with worker(environment(resources.settings)) as process:
        await eventually(partial(jobs.read_outcome, resources, request.job_id), seconds=30)
        lines = await log_until(process, "job ended")
        process.send_signal(signal.SIGTERM)
        status, rest = await ended(process)
    assert status == 0
    await success_of(resources, request)
    facts = lines[-1]
    assert (facts["job_id"], facts["correlation_id"], facts["status"]) == (request.job_id, "corr-1", "succeeded")
    output = json.dumps(lines) + rest
    assert TEXT not in output
    assert TRANSCRIPTION not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_finishes_running_job(resources: Resources, number: signal.Signals) -> None:
    request = await submit_upload_job(resources)
    async with worker(environment(resources.settings, MOCK_DELAY_SECONDS="2")) as process:
        await log_until(process, "synthesis started")
        process.send_signal(number)
        status, output = await ended(process)
    assert status == 0
    assert json.loads(output.splitlines()[-1])["event"] == "worker stopped"
    await success_of(resources, request)


async def test_ecs_protection_allows_sigterm(
    resources: Resources,
) -> None:
    request = await submit_upload_job(resources)
    async with fake_agent() as agent:
        env = environment(resources.settings, MOCK_DELAY_SECONDS="2", ECS_AGENT_URI=agent.url)
        async with worker(env) as process:
            await log_until(process, "synthesis started")
            assert agent.is_protected
            process.send_signal(signal.SIGTERM)  # the agent's reaction to the notice, protected or not
            status, _ = await ended(process)
    assert status == 0
    await success_of(resources, request)


async def test_ecs_protection_off_when_idle(resources: Resources) -> None:
    async with fake_agent() as agent, worker(environment(resources.settings, ECS_AGENT_URI=agent.url)) as process:
        await log_until(process, "worker ready")
        await eventually(partial(_protection_was_released, agent))
        process.send_signal(signal.SIGTERM)
        assert (await ended(process))[0] == 0


async def _protection_was_released(agent: FakeAgent) -> bool:
    return agent.protection_requests[:2] == [True, False]


async def test_second_signal_exits_at_once(resources: Resources) -> None:
    request = await submit_upload_job(resources)
    async with worker(environment(resources.settings, MOCK_DELAY_SECONDS="600")) as process:
        await log_until(process, "synthesis started")
        process.send_signal(signal.SIGTERM)
        await log_until(process, "draining")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):  # less than the limit of a drain
            await process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    assert await jobs.read_outcome(resources, request.job_id) is None


async def test_drain_timeout_returns_message(resources: Resources) -> None:
    await submit_upload_job(resources)
    env = environment(resources.settings, MOCK_DELAY_SECONDS="600", WORKER_DRAIN_SECONDS="0.5")
    async with worker(env) as process:
        await log_until(process, "synthesis started")
        process.send_signal(signal.SIGTERM)
        status, _ = await ended(process)
    assert status == 0
    assert len(await resources.synthesis.receive(1, wait_seconds=0)) == 1  # returned to the queue, visible at once


async def test_killed_worker_job_is_redelivered(settings: Settings) -> None:
    settings = settings.model_copy(update={"visibility_timeout_seconds": 3})
    async with provisioned(settings) as resources:
        request = await submit_upload_job(resources)
        env = environment(settings, MOCK_DELAY_SECONDS="600", VISIBILITY_TIMEOUT_SECONDS="3")
        async with worker(env) as process:
            await log_until(process, "synthesis started")
            process.kill()
        async with worker(environment(settings)):
            await eventually(partial(jobs.read_outcome, resources, request.job_id), seconds=30)
        await success_of(resources, request)


async def test_start_names_bad_settings(settings: Settings) -> None:
    env = environment(settings, WORKER_BATCH_SIZE="none", LOG_LEVEL="loud")
    async with worker(env) as process:
        status, output = await ended(process)
    assert status == 2
    assert {line.split(":")[0] for line in output.splitlines()} == {"LOG_LEVEL", "WORKER_BATCH_SIZE"}


@pytest.mark.parametrize("setting", ["BUCKET", "VOICES_BUCKET", "SYNTHESIS_QUEUE"])
async def test_start_names_missing_resource(resources: Resources, setting: str) -> None:
    env = environment(resources.settings, **{setting: "no-such-thing"})
    async with worker(env) as process:
        status, output = await ended(process)
    assert status == 2
    assert "no-such-thing" in output.splitlines()[-1]
    assert setting in output.splitlines()[-1]
    assert "Traceback" not in output


async def test_start_health_port_in_use(resources: Resources) -> None:
    port = free_port("127.0.0.1")
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port)
    async with server, worker(environment(resources.settings, WORKER_HEALTH_PORT=str(port))) as process:
        status, output = await ended(process)
    assert status == 1
    assert output.splitlines()[-1].startswith(f"WORKER_HEALTH_PORT={port} is not available")
    assert "Traceback" not in output
