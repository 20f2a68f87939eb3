"""`/status` and `/metrics`: figures that are true, whatever does not answer."""

from datetime import timedelta

import httpx

from functions.background import sweep
from functions.http.application import create_app, serve_with
from functions.http.operations.health_checks import HealthChecks
from functions.http.operations.job_statistics import read_statistics
from functions.http.operations.service_status import ServiceStatus, StatusReader
from pipeline.contract.records import Request, Timings
from tests.world import World

QUICK = Timings(queued_seconds=1, synthesis_seconds=1, real_time_factor=0.25)
SLOW = Timings(queued_seconds=9, synthesis_seconds=3, real_time_factor=2)


async def read(world: World) -> ServiceStatus:
    return await reader(world).read()


def reader(world: World) -> StatusReader:
    return StatusReader(world.resources, HealthChecks(world.resources), "1.2.3")


async def spoken(world: World, timings: Timings) -> Request:
    request = await world.job()
    await world.succeed(request, timings)
    return request


async def test_a_service_that_has_done_nothing_is_well() -> None:
    status = await read(World())
    assert (status.status, status.sweep, status.worker) == ("ok", None, None)
    assert status.jobs is not None
    assert (status.jobs.made, status.jobs.wait_seconds, status.jobs.last_ended_at) == (0, None, None)
    assert status.versions.service == "1.2.3"


async def test_the_jobs_of_the_last_hour_by_outcome_with_waits_and_speeds() -> None:
    world = World()
    await spoken(world, SLOW)
    world.later(hours=1, seconds=1)
    await spoken(world, QUICK)
    await spoken(world, SLOW)
    await world.fail(await world.job())
    await world.job()
    jobs = await read_statistics(world.resources)
    assert (jobs.made, jobs.open, jobs.read) == (4, 1, 3)
    assert jobs.outcomes == {"succeeded": 2, "unavailable": 1}
    assert jobs.wait_seconds is not None
    assert (jobs.wait_seconds.p50, jobs.wait_seconds.p95, jobs.wait_seconds.max) == (9, 9, 9)
    assert jobs.speed is not None
    assert (jobs.speed.p50, jobs.speed.p95, jobs.speed.max) == (0.5, 0.5, 4)
    assert (jobs.audio_seconds, jobs.last_ended_at) == (2.5, world.time())


async def test_queues_tell_what_waits_and_what_is_taken() -> None:
    world = World()
    for _ in range(3):
        await world.job()
    await world.synthesis.receive(1, wait_seconds=0)
    queue = (await read(world)).queues["synthesis"]
    assert queue is not None
    assert (queue.waiting, queue.taken) == (2, 1)


async def test_a_sweep_is_late_once_its_minute_is_over() -> None:
    world = World()
    await sweep.handle(world.resources, {})
    world.later(seconds=59)
    assert _lag(await read(world)) == 0
    world.later(seconds=31)
    assert _lag(await read(world)) == 30
    world.later(minutes=10)
    assert (await read(world)).status == "degraded"


def _lag(status: ServiceStatus) -> float:
    assert status.sweep is not None
    return status.sweep.lag_seconds


async def test_dead_letters_are_no_good_sign() -> None:
    world = World()
    await world.dead.send("{}")
    assert (await read(world)).status == "degraded"


async def test_what_does_not_answer_is_told_and_the_rest_is_there() -> None:
    world = World()
    await world.job()
    world.bucket.switch.is_up = world.dead.switch.is_up = False
    status = await read(world)
    assert (status.status, status.jobs, status.sweep) == ("degraded", None, None)
    assert status.unreachable == ["storage"]
    assert status.queues["dead letters"] is None
    queue = status.queues["synthesis"]
    assert queue is not None
    assert queue.waiting == 1


async def test_however_many_ask_it_looks_every_few_seconds() -> None:
    world = World()
    reading = reader(world)
    for _ in range(10):
        await reading.read()
    assert world.synthesis.switch.count("counts") == 1
    world.later(seconds=5)
    await reading.read()
    assert world.synthesis.switch.count("counts") == 2


async def test_a_job_with_many_files_is_one_job() -> None:
    world = World()
    request = await spoken(world, QUICK)
    for client in "abc":
        await world.bucket.put(f"jobs/{request.job_id}/subscribers/{client}.json", b"{}", "application/json")
    assert (await read_statistics(world.resources)).made == 1


async def test_of_very_many_jobs_the_newest_tell() -> None:
    world = World()
    await world.fail(await world.job())
    world.later(seconds=1)
    await spoken(world, QUICK)
    world.later(seconds=1)
    await spoken(world, SLOW)
    jobs = await read_statistics(world.resources, read_at_most=2)
    assert (jobs.made, jobs.read, jobs.outcomes) == (3, 2, {"succeeded": 2})


async def test_prometheus_reads_the_same_figures() -> None:
    world = World()
    await spoken(world, QUICK)
    await world.fail(await world.job())
    await sweep.handle(world.resources, {})
    world.later(minutes=2)
    text = await metrics(world)
    assert 'voice_cloning_jobs_ended{outcome="succeeded"} 1\n' in text
    assert 'voice_cloning_jobs_ended{outcome="unavailable"} 1\n' in text
    assert 'voice_cloning_job_speed{quantile="0.5"} 4\n' in text
    assert 'voice_cloning_queue_waiting{queue="synthesis"} 2\n' in text
    assert "voice_cloning_sweep_lag_seconds 60\n" in text
    lines = text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert all(line.startswith("#") or float(line.rsplit(" ", 1)[1]) >= 0 for line in lines)


async def metrics(world: World) -> str:
    app = create_app(world.resources.settings)
    serve_with(app, world.resources)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        shown = (await client.get("/status")).json()
    assert shown["jobs"]["made"] == 2
    assert timedelta(seconds=shown["sweep"]["lag_seconds"]) == timedelta(minutes=1)
    return answer.text
