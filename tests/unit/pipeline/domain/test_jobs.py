"""The state of jobs."""

import asyncio
from datetime import timedelta

import pytest

from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Failed, Request
from pipeline.domain import jobs
from pipeline.errors import NotFound, Unavailable
from pipeline.ids import id_maker
from tests.support.fake_service import FakeService, job_of_newer_version
from tests.support.fakes.clock import EPOCH


async def status(fakes: FakeService, job_id: str) -> str:
    return (await jobs.read(fakes.resources, None, job_id)).status


async def test_job_is_queued_until_outcome() -> None:
    fakes = FakeService()
    request = await fakes.job()
    (body,) = fakes.synthesis.bodies
    message = parse_queue_message(body)
    assert message is not None
    assert message.job_id == request.job_id
    assert Request.model_validate(message.request) == request
    assert await status(fakes, request.job_id) == "queued"
    await fakes.succeed(request)
    job = await jobs.read(fakes.resources, None, request.job_id)
    assert (job.status, job.created_at) == ("succeeded", EPOCH)


async def test_failure_is_kept() -> None:
    fakes = FakeService()
    request = await fakes.job()
    failed = await fakes.fail(request)
    job = await jobs.read(fakes.resources, None, request.job_id)
    assert (job.status, job.outcome) == ("failed", failed)


async def test_success_expires_with_preview() -> None:
    fakes = FakeService()
    request = await fakes.job()
    fakes.advance(minutes=59)
    await fakes.succeed(request)
    fakes.advance(minutes=20, milliseconds=-1)
    assert await status(fakes, request.job_id) == "succeeded"
    fakes.advance(milliseconds=1)
    assert await status(fakes, request.job_id) == "expired"


async def test_failure_expires_with_record() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.fail(request)
    fakes.advance(hours=24, milliseconds=-1)
    assert await status(fakes, request.job_id) == "failed"
    fakes.advance(milliseconds=1)
    with pytest.raises(NotFound):
        await jobs.read(fakes.resources, None, request.job_id)


async def test_job_past_deadline_has_failed() -> None:
    fakes = FakeService()
    request = await fakes.job()
    fakes.advance(hours=1, milliseconds=-1)
    assert await status(fakes, request.job_id) == "queued"
    fakes.advance(milliseconds=1)
    job = await jobs.read(fakes.resources, None, request.job_id)
    assert isinstance(job.outcome, Failed)
    assert (job.status, job.outcome.code) == ("failed", "deadline_exceeded")
    assert job.outcome.completed_at == EPOCH + timedelta(hours=1)
    assert "60 minutes" in job.outcome.message


@pytest.mark.parametrize(
    "job_id",
    [
        "",
        "nova",
        "0" * 32,
        "ffffffffffff7fff8fffffffffffffff",
        pytest.param(id_maker(lambda: EPOCH)(), id="unknown"),
        "x" * 5000,
    ],
)
async def test_unknown_job(job_id: str) -> None:
    with pytest.raises(NotFound) as caught:
        await jobs.read(FakeService().resources, None, job_id)
    assert caught.value.field == "job_id"
    assert len(caught.value.message) < 200


async def test_first_outcome_stands() -> None:
    fakes = FakeService()
    request = await fakes.job()
    first = jobs.failure(request, Unavailable("first"), fakes.time())
    second = jobs.failure(request, Unavailable("second"), fakes.time())
    written = await asyncio.gather(*(jobs.write_outcome(fakes.resources, one) for one in (first, second)))
    assert sorted(written) == [False, True]
    outcome = await jobs.read_outcome(fakes.resources, request.job_id)
    assert outcome == (first if written[0] else second)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        "null",
        '"x"',
        '{"job_id": 5}',
        '{"job_id": null}',
        '{"job_id": "../x"}',
        "\x00",
        "{" * 10_000,
    ],
)
def test_parse_queue_message_invalid(body: str) -> None:
    assert parse_queue_message(body) is None


def test_queue_message_unknown_fields() -> None:
    job_id = id_maker(lambda: EPOCH)()
    ticket = parse_queue_message(f'{{"job_id": "{job_id}", "from": "the future"}}')
    assert ticket is not None
    assert ticket.job_id == job_id


async def test_damaged_request_is_not_found() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.bucket.put(layout.request(request.job_id), b"{", JSON)
    assert await jobs.read_envelope(fakes.resources, request.job_id) is None


async def test_newer_version_is_queued() -> None:
    fakes = FakeService()
    job_id = await job_of_newer_version(fakes)
    assert await status(fakes, job_id) == "queued"
    fakes.advance(hours=1)
    job = await jobs.read(fakes.resources, None, job_id)
    assert isinstance(job.outcome, Failed)
    assert (job.status, job.outcome.code) == ("failed", "deadline_exceeded")


async def test_unfinished_oldest_first() -> None:
    fakes = FakeService()
    made = []
    for _ in range(6):
        made.append(await fakes.job())
        fakes.advance(minutes=1)
    await fakes.succeed(made[1])
    await fakes.fail(made[2])
    await fakes.bucket.put(layout.subscriber(made[3].job_id, "c"), b"{}", JSON)
    await fakes.bucket.put(layout.subscriber(made[2].job_id, "c"), b"{}", JSON)
    await fakes.bucket.put(layout.JOBS + "README.txt", b"", "text/plain")
    found = [job_id async for job_id in jobs.unfinished(fakes.resources, since=EPOCH, until=fakes.time())]
    assert found == [made[n].job_id for n in (0, 3, 4, 5)]


async def test_unfinished_in_period() -> None:
    fakes = FakeService()
    made = []
    for _ in range(4):
        made.append(await fakes.job())
        fakes.advance(minutes=1)
    since, until = EPOCH + timedelta(minutes=1), EPOCH + timedelta(minutes=3)
    found = [job_id async for job_id in jobs.unfinished(fakes.resources, since=since, until=until)]
    assert found == [made[1].job_id, made[2].job_id]
    nothing = [job_id async for job_id in jobs.unfinished(fakes.resources, since=until, until=until)]
    assert nothing == []


async def test_outcome_without_request() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    await fakes.bucket.delete([layout.request(request.job_id)])
    later = EPOCH + timedelta(minutes=1)
    assert [job_id async for job_id in jobs.unfinished(fakes.resources, since=EPOCH, until=later)] == []


async def test_cancel_by_owner_only() -> None:
    fakes = FakeService()
    request = await fakes.job(owner="alice")
    with pytest.raises(NotFound):
        await jobs.cancel(fakes.resources, "bob", request.job_id)
    cancelled = await jobs.cancel(fakes.resources, "alice", request.job_id)
    assert cancelled.status == "failed"
    assert isinstance(cancelled.outcome, Failed)
    assert cancelled.outcome.code == "cancelled"
    assert await jobs.cancel(fakes.resources, "alice", request.job_id) == cancelled
