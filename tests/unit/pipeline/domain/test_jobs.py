"""A job's state is read from what is stored; nothing is half accepted."""

import asyncio
from datetime import timedelta

import pytest

from pipeline.access.owners import new_id
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout
from pipeline.contract.queue_messages import parse_queue_message
from pipeline.contract.records import Failed, Request, Source
from pipeline.domain import jobs
from pipeline.errors import NotFound, Unavailable
from pipeline.ids import id_maker
from tests.fakes import EPOCH, Switch
from tests.world import World, a_newer_versions_job

EXTRA = NewObject("audio/uploads/extra", b"", "x")


async def status(world: World, job_id: str) -> str:
    return (await jobs.read(world.resources, None, job_id)).status


async def test_a_job_is_queued_until_it_has_an_outcome() -> None:
    world = World()
    request = await world.job()
    (body,) = world.synthesis.bodies
    message = parse_queue_message(body)
    assert message is not None
    assert message.job_id == request.job_id
    assert Request.model_validate(message.request) == request
    assert await status(world, request.job_id) == "queued"
    await world.succeed(request)
    job = await jobs.read(world.resources, None, request.job_id)
    assert (job.status, job.created_at) == ("succeeded", EPOCH)


async def test_a_long_request_is_left_on_the_storage() -> None:
    world = World()
    request = _built(world, await world.session()).model_copy(update={"text": "小" * 30_000})
    await jobs.accept(world.resources, request)
    assert world.synthesis.bodies == [f'{{"job_id":"{request.job_id}","request":null}}']


async def test_a_failure_is_told_as_it_was_written() -> None:
    world = World()
    request = await world.job()
    failed = await world.fail(request)
    job = await jobs.read(world.resources, None, request.job_id)
    assert (job.status, job.outcome) == ("failed", failed)


async def test_a_success_expires_with_its_preview() -> None:
    world = World()
    request = await world.job()
    world.later(minutes=59)
    await world.succeed(request)
    world.later(minutes=20, milliseconds=-1)
    assert await status(world, request.job_id) == "succeeded"
    world.later(milliseconds=1)
    assert await status(world, request.job_id) == "expired"


async def test_a_failure_does_not_expire_before_its_record() -> None:
    world = World()
    request = await world.job()
    await world.fail(request)
    world.later(hours=24, milliseconds=-1)
    assert await status(world, request.job_id) == "failed"
    world.later(milliseconds=1)
    with pytest.raises(NotFound):
        await jobs.read(world.resources, None, request.job_id)


async def test_a_job_past_its_deadline_has_failed_though_nobody_wrote_so() -> None:
    world = World()
    request = await world.job()
    world.later(hours=1, milliseconds=-1)
    assert await status(world, request.job_id) == "queued"
    world.later(milliseconds=1)
    job = await jobs.read(world.resources, None, request.job_id)
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
async def test_what_is_no_job(job_id: str) -> None:
    with pytest.raises(NotFound) as caught:
        await jobs.read(World().resources, None, job_id)
    assert caught.value.field == "job_id"
    assert len(caught.value.message) < 200


async def test_the_first_outcome_stands() -> None:
    world = World()
    request = await world.job()
    first = jobs.failure(request, Unavailable("first"), world.time())
    second = jobs.failure(request, Unavailable("second"), world.time())
    written = await asyncio.gather(*(jobs.write_outcome(world.resources, one) for one in (first, second)))
    assert sorted(written) == [False, True]
    outcome = await jobs.read_outcome(world.resources, request.job_id)
    assert outcome == (first if written[0] else second)


async def test_a_job_that_can_not_be_stored_or_sent_is_not_accepted() -> None:
    for calls in range(5):
        world = World()
        session_id = await world.session()
        before = world.keys()
        request = _built(world, session_id)
        world.blow_after(calls, Unavailable)
        try:
            await jobs.accept(world.resources, request, [EXTRA])
        except Unavailable:
            world.mend()
        else:
            assert calls >= 3
            assert world.synthesis.bodies
            continue
        assert world.synthesis.bodies == []
        left = set(world.keys()) - set(before) - {EXTRA.key}
        # The storage that could not be written to can't be cleaned either, but then nothing was written.
        assert not left or calls in {1, 2}


async def test_what_could_not_be_sent_is_taken_back() -> None:
    world = World()
    request = _built(world, await world.session())
    world.synthesis.switch.is_up = False
    with pytest.raises(Unavailable):
        await jobs.accept(world.resources, request)
    assert world.keys(layout.JOBS) == []


class NoRoom(Switch):
    """Fails one of the writes, after some turns of the event loop."""

    def __init__(self, failing: int, turns: int) -> None:
        super().__init__()
        self._failing, self._turns = failing, turns

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        if call == "put" and self.count("put") == self._failing:
            for _ in range(self._turns):
                await asyncio.sleep(0)
            raise Unavailable("no room")


@pytest.mark.parametrize("turns", [0, 20])
async def test_an_upload_that_fails_sooner_or_later_takes_the_request_with_it(turns: int) -> None:
    world = World()
    request = _built(world, await world.session())
    world.bucket.switch = NoRoom(2, turns)
    with pytest.raises(Unavailable, match="no room"):
        await jobs.accept(world.resources, request, [EXTRA])
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.keys(layout.JOBS) == []
    assert world.synthesis.bodies == []


def _built(world: World, session_id: str) -> Request:
    return Request(
        job_id=world.resources.new_id(),
        kind="preview",
        source=Source(session_id=session_id),
        reference_id=session_id,
        text="Hello.",
        created_at=world.time(),
    )


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
def test_what_is_no_ticket(body: str) -> None:
    assert parse_queue_message(body) is None


def test_a_ticket_may_say_more_than_we_know() -> None:
    job_id = id_maker(lambda: EPOCH)()
    ticket = parse_queue_message(f'{{"job_id": "{job_id}", "from": "the future"}}')
    assert ticket is not None
    assert ticket.job_id == job_id


async def test_a_damaged_request_is_not_found() -> None:
    world = World()
    request = await world.job()
    await world.bucket.put(layout.request(request.job_id), b"{", JSON)
    assert await jobs.read_envelope(world.resources, request.job_id) is None


async def test_a_job_of_a_newer_version_is_queued_until_its_deadline() -> None:
    world = World()
    job_id = await a_newer_versions_job(world)
    assert await status(world, job_id) == "queued"
    world.later(hours=1)
    job = await jobs.read(world.resources, None, job_id)
    assert isinstance(job.outcome, Failed)
    assert (job.status, job.outcome.code) == ("failed", "deadline_exceeded")


async def test_the_unfinished_are_found_oldest_first() -> None:
    world = World()
    made = []
    for _ in range(6):
        made.append(await world.job())
        world.later(minutes=1)
    await world.succeed(made[1])
    await world.fail(made[2])
    await world.bucket.put(layout.subscriber(made[3].job_id, "c"), b"{}", JSON)
    await world.bucket.put(layout.subscriber(made[2].job_id, "c"), b"{}", JSON)
    await world.bucket.put(layout.JOBS + "README.txt", b"", "text/plain")
    found = [job_id async for job_id in jobs.unfinished(world.resources, since=EPOCH, until=world.time())]
    assert found == [made[n].job_id for n in (0, 3, 4, 5)]


async def test_the_unfinished_of_a_span_and_no_others() -> None:
    world = World()
    made = []
    for _ in range(4):
        made.append(await world.job())
        world.later(minutes=1)
    since, until = EPOCH + timedelta(minutes=1), EPOCH + timedelta(minutes=3)
    found = [job_id async for job_id in jobs.unfinished(world.resources, since=since, until=until)]
    assert found == [made[1].job_id, made[2].job_id]
    nothing = [job_id async for job_id in jobs.unfinished(world.resources, since=until, until=until)]
    assert nothing == []


async def test_an_outcome_without_a_request_is_finished() -> None:
    world = World()
    request = await world.job()
    await world.succeed(request)
    await world.bucket.delete([layout.request(request.job_id)])
    later = EPOCH + timedelta(minutes=1)
    assert [job_id async for job_id in jobs.unfinished(world.resources, since=EPOCH, until=later)] == []


async def accepted_by(world: World, owner: str) -> Request:
    session_id = await world.session()
    request = _built(world, session_id).model_copy(
        update={
            "job_id": new_id(world.resources.new_id, owner),
            "source": Source(session_id=session_id, owner=owner),
        }
    )
    await jobs.accept(world.resources, request)
    return request


async def test_an_owner_cancels_a_job_and_nobody_else_can() -> None:
    world = World()
    request = await accepted_by(world, "alice")
    with pytest.raises(NotFound):
        await jobs.cancel(world.resources, "bob", request.job_id)
    cancelled = await jobs.cancel(world.resources, "alice", request.job_id)
    assert cancelled.status == "failed"
    assert isinstance(cancelled.outcome, Failed)
    assert cancelled.outcome.code == "cancelled"
    assert await jobs.cancel(world.resources, "alice", request.job_id) == cancelled


async def test_a_job_is_queued_with_those_of_its_owner_each_time() -> None:
    world = World()
    request = await accepted_by(world, "alice")
    await jobs.enqueue(world.resources, request.job_id, "alice")
    assert world.synthesis.groups == ["alice", "alice"]
