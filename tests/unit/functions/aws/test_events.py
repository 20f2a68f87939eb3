"""Batches of SQS and the schedule, as recorded: what failed is named, and no event leaves anything to the next."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import structlog

from functions.aws.process import Event, Process, serving
from functions.background import dead_letters, notify, sweep
from pipeline.clients.resources import Resources
from pipeline.contract.records import Failed, ReplyTo, Request, Subscriber
from pipeline.domain import jobs
from tests.support.aws_events import Context, process_of, recorded
from tests.support.fake_service import FakeService

ADDRESSES = (
    ReplyTo(endpoint="https://here/live", connection_id="c1="),
    ReplyTo(endpoint="https://here/live", connection_id="c2="),
)


@pytest.fixture
def fakes() -> FakeService:
    return FakeService()


@pytest.fixture
def process(fakes: FakeService) -> Iterator[Process]:
    with process_of(fakes.resources) as process:
        yield process


async def two_jobs(fakes: FakeService, *, ended: bool) -> dict[str, str]:
    requests: list[Request] = [await fakes.job(Subscriber(reply_to=address)) for address in ADDRESSES]
    for request in requests if ended else ():
        await fakes.succeed(request)
    return {"FIRST_JOB_ID": requests[0].job_id, "SECOND_JOB_ID": requests[1].job_id}


def again(answer: Event) -> list[str]:
    return [failure["itemIdentifier"][-2:] for failure in answer["batchItemFailures"]]


def test_notify_batch(fakes: FakeService, process: Process) -> None:
    said = process.run(two_jobs(fakes, ended=True))
    answer = serving(process, partial(notify.handle, lookups=notify.Lookups.of(process.resources)))(
        recorded("sqs_s3_created", **said), Context()
    )
    assert again(answer) == []
    told = {to: json.loads(body) for to, body in fakes.connections.posted}
    assert {to: message["data"]["job_id"] for to, message in told.items()} == {
        "c1=": said["FIRST_JOB_ID"],
        "c2=": said["SECOND_JOB_ID"],
    }


def test_notify_batch_reports_failures(fakes: FakeService, process: Process) -> None:
    said = process.run(two_jobs(fakes, ended=True))
    fakes.connections.unreachable.add("c2=")
    handler = serving(process, partial(notify.handle, lookups=notify.Lookups.of(process.resources)))
    assert again(handler(recorded("sqs_s3_created", **said), Context())) == ["13"]
    fakes.connections.unreachable.clear()
    assert again(handler(recorded("sqs_s3_created", **said), Context())) == []
    assert [to for to, _ in fakes.connections.posted] == ["c1=", "c1=", "c2="]


def test_dead_letters_batch(fakes: FakeService, process: Process) -> None:
    said = process.run(two_jobs(fakes, ended=False))
    answer = serving(process, dead_letters.handle)(recorded("sqs_dead_letters", **said), Context())
    assert again(answer) == []
    for job_id in said.values():
        assert isinstance(process.run(jobs.read_outcome(fakes.resources, job_id)), Failed)


def test_dead_letters_storage_unavailable(fakes: FakeService, process: Process) -> None:
    said = process.run(two_jobs(fakes, ended=False))
    fakes.bucket.switch.is_up = False
    answer = serving(process, dead_letters.handle)(recorded("sqs_dead_letters", **said), Context())
    assert again(answer) == ["01", "02"]


@pytest.mark.parametrize("name", ["schedule", "schedule_rule"])
def test_schedule_event_sweeps(fakes: FakeService, process: Process, name: str) -> None:
    said = process.run(two_jobs(fakes, ended=True))
    fakes.advance(hours=25)
    swept = serving(process, sweep.handle)(recorded(name), Context())
    assert (swept["jobs"], swept["previews"]) == (2 * len(said), len(said))
    assert fakes.keys() == [*fakes.keys("derived/"), "sweeps/last.json"]


def test_events_share_loop_not_context(process: Process) -> None:
    seen: list[Any] = []

    async def look(_resources: Resources, event: Event) -> None:
        seen.append((process.loop.is_running(), structlog.contextvars.get_contextvars()))
        structlog.contextvars.bind_contextvars(left="behind", by=event["id"])

    handler = serving(process, look)
    for name in ("schedule", "schedule_rule"):
        handler(recorded(name), Context())
    assert seen == [(True, {"aws_request_id": Context.aws_request_id})] * 2
    assert structlog.contextvars.get_contextvars() == {}


def test_handler_exception_is_raised(process: Process) -> None:
    async def fail(_resources: Resources, _event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        serving(process, fail)(recorded("schedule"), Context())
