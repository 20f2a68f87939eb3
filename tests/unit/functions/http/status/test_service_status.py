"""`/status` and `/metrics`."""

from datetime import timedelta

import httpx

from functions.background import sweep
from functions.http.application import create_app, serve_with
from functions.http.status.health_checks import HealthChecks
from functions.http.status.job_statistics import read_statistics
from functions.http.status.service_status import ServiceStatus, StatusReader
from pipeline.contract.records import Request, Timings
from tests.support.fake_service import FakeService

QUICK = Timings(queued_seconds=1, synthesis_seconds=1, real_time_factor=0.25)
SLOW = Timings(queued_seconds=9, synthesis_seconds=3, real_time_factor=2)


async def read(fakes: FakeService) -> ServiceStatus:
    return await reader(fakes).read()


def reader(fakes: FakeService) -> StatusReader:
    return StatusReader(fakes.resources, HealthChecks(fakes.resources), "1.2.3")


async def spoken(fakes: FakeService, timings: Timings) -> Request:
    request = await fakes.job()
    await fakes.succeed(request, timings)
    return request


async def test_status_of_idle_service() -> None:
    status = await read(FakeService())
    assert (status.status, status.sweep, status.worker) == ("ok", None, None)
    assert status.jobs is not None
    assert (status.jobs.made, status.jobs.wait_seconds, status.jobs.last_ended_at) == (0, None, None)
    assert status.versions.service == "1.2.3"


async def test_status_counts_jobs_by_outcome() -> None:
    fakes = FakeService()
    await spoken(fakes, SLOW)
    fakes.advance(hours=1, seconds=1)
    await spoken(fakes, QUICK)
    await spoken(fakes, SLOW)
    await fakes.fail(await fakes.job())
    await fakes.job()
    jobs = await read_statistics(fakes.resources)
    assert (jobs.made, jobs.open, jobs.read) == (4, 1, 3)
    assert jobs.outcomes == {"succeeded": 2, "unavailable": 1}
    assert jobs.wait_seconds is not None
    assert (jobs.wait_seconds.p50, jobs.wait_seconds.p95, jobs.wait_seconds.max) == (9, 9, 9)
    assert jobs.speed is not None
    assert (jobs.speed.p50, jobs.speed.p95, jobs.speed.max) == (0.5, 0.5, 4)
    assert (jobs.audio_seconds, jobs.last_ended_at) == (2.5, fakes.time())


async def test_status_counts_queues() -> None:
    fakes = FakeService()
    for _ in range(3):
        await fakes.job()
    await fakes.synthesis.receive(1, wait_seconds=0)
    queue = (await read(fakes)).queues["synthesis"]
    assert queue is not None
    assert (queue.waiting, queue.taken) == (2, 1)


async def test_status_degraded_by_late_sweep() -> None:
    fakes = FakeService()
    await sweep.handle(fakes.resources, {})
    fakes.advance(seconds=59)
    assert _lag(await read(fakes)) == 0
    fakes.advance(seconds=31)
    assert _lag(await read(fakes)) == 30
    fakes.advance(minutes=10)
    assert (await read(fakes)).status == "degraded"


def _lag(status: ServiceStatus) -> float:
    assert status.sweep is not None
    return status.sweep.lag_seconds


async def test_status_degraded_by_dead_letters() -> None:
    fakes = FakeService()
    await fakes.dead.send("{}")
    assert (await read(fakes)).status == "degraded"


async def test_status_names_unreachable() -> None:
    fakes = FakeService()
    await fakes.job()
    fakes.bucket.switch.is_up = fakes.dead.switch.is_up = False
    status = await read(fakes)
    assert (status.status, status.jobs, status.sweep) == ("degraded", None, None)
    assert status.unreachable == ["storage"]
    assert status.queues["dead letters"] is None
    queue = status.queues["synthesis"]
    assert queue is not None
    assert queue.waiting == 1


async def test_status_cached() -> None:
    fakes = FakeService()
    reading = reader(fakes)
    for _ in range(10):
        await reading.read()
    assert fakes.synthesis.switch.count("counts") == 1
    fakes.advance(seconds=5)
    await reading.read()
    assert fakes.synthesis.switch.count("counts") == 2


async def test_job_with_many_files_counted_once() -> None:
    fakes = FakeService()
    request = await spoken(fakes, QUICK)
    for client in "abc":
        await fakes.bucket.put(f"jobs/{request.job_id}/subscribers/{client}.json", b"{}", "application/json")
    assert (await read_statistics(fakes.resources)).made == 1


async def test_statistics_use_newest_jobs() -> None:
    fakes = FakeService()
    await fakes.fail(await fakes.job())
    fakes.advance(seconds=1)
    await spoken(fakes, QUICK)
    fakes.advance(seconds=1)
    await spoken(fakes, SLOW)
    jobs = await read_statistics(fakes.resources, read_at_most=2)
    assert (jobs.made, jobs.read, jobs.outcomes) == (3, 2, {"succeeded": 2})


async def test_metrics_equal_status() -> None:
    fakes = FakeService()
    await spoken(fakes, QUICK)
    await fakes.fail(await fakes.job())
    await sweep.handle(fakes.resources, {})
    fakes.advance(minutes=2)
    text = await metrics(fakes)
    assert 'voice_cloning_jobs_ended{outcome="succeeded"} 1\n' in text
    assert 'voice_cloning_jobs_ended{outcome="unavailable"} 1\n' in text
    assert 'voice_cloning_job_speed{quantile="0.5"} 4\n' in text
    assert 'voice_cloning_queue_waiting{queue="synthesis"} 2\n' in text
    assert "voice_cloning_sweep_lag_seconds 60\n" in text
    lines = text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert all(line.startswith("#") or float(line.rsplit(" ", 1)[1]) >= 0 for line in lines)


async def metrics(fakes: FakeService) -> str:
    app = create_app(fakes.resources.settings)
    serve_with(app, fakes.resources)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        shown = (await client.get("/status")).json()
    assert shown["jobs"]["made"] == 2
    assert timedelta(seconds=shown["sweep"]["lag_seconds"]) == timedelta(minutes=1)
    return answer.text
