"""The embedded AWS: durable objects, queue recovery, and delivery without delay."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from embedded import configuration
from embedded.storage.data_folder import new_credentials
from provisioning.provision import provision
from provisioning.queues import queue_names
from provisioning.recovery import refill_queues
from structlog.testing import capture_logs
from supervision.ports import free_port
from supervision.processes import ChildProcess
from supervisor import store_program

from pipeline.access import rate_limits
from pipeline.clients.resources import Resources, connect
from pipeline.clients.storage import JSON
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract import layout
from pipeline.contract.messages import events
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import Request, Source, Succeeded, outcome_fields
from pipeline.domain import acceptance, jobs
from pipeline.errors import QuotaStatus, TooMany
from pipeline.ids import utc_now
from pipeline.settings import Settings
from tests.support.embedded_store import Store, running_store
from tests.support.waiting import eventually

# One pytest-xdist worker, so that the tests share a running store.
pytestmark = pytest.mark.xdist_group("embedded")

CREDENTIALS = new_credentials()
_numbers = count(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An embedded AWS for all tests of this module."""
    with running_store(tmp_path_factory.mktemp("embedded")) as started:
        yield started


@pytest.fixture
def settings(store: Store, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with bucket and queue names that are unique to the test."""
    for name, value in configuration.client_environment(
        int(store.url.rsplit(":", 1)[1]), store.credentials
    ).items():
        monkeypatch.setenv(name, value)
    number = next(_numbers)
    return Settings(
        visibility_timeout_seconds=30,
        bucket=f"voices-{number}",
        synthesis_queue=f"synthesis-{number}",
        synthesis_dead_letter_queue=f"synthesis-dead-{number}",
        events_queue=f"events-{number}",
        events_dead_letter_queue=f"events-dead-{number}",
    )


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """Resources, provisioned as by the supervisor."""
    await provision(settings)
    async with connect(settings) as connected:
        yield connected


@pytest.fixture
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for an embedded AWS that the test starts itself."""
    for name, value in configuration.client_environment(free_port(configuration.HOST), CREDENTIALS).items():
        monkeypatch.setenv(name, value)
    return Settings(visibility_timeout_seconds=30)


@asynccontextmanager
async def running(settings: Settings, data: Path) -> AsyncIterator[ChildProcess]:
    """Run the embedded AWS, and kill it at the end."""
    port = int(str(settings.aws_endpoint_url).rsplit(":", 1)[1])
    child = ChildProcess(store_program(port, data, settings, CREDENTIALS))
    task = asyncio.create_task(child.keep_running())
    try:
        async with asyncio.timeout(60):
            await child.ready.wait()
        yield child
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await child.stop(0)


def _request(resources: Resources) -> Request:
    return Request(
        job_id=resources.new_id(),
        kind="preview",
        source=Source(voice_id="nova"),
        reference_id="nova",
        text="Hello.",
        created_at=resources.clock(),
    )


async def _bodies(queue: Any) -> list[str]:
    return [message.body for message in await queue.receive(10, wait_seconds=1)]


async def _event_keys(resources: Resources) -> list[str]:
    """Return the object keys of the queued events.  S3's test event contains none."""
    return [key for body in await _bodies(resources.events) for key in events.keys_created(body)]


def test_queues_exist_before_provisioning(store: Store) -> None:
    """After a crash of the store the services use it before it is provisioned again."""
    sqs = store.client("sqs")
    assert [sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in queue_names(Settings())]


async def test_queue_is_fair_between_groups(resources: Resources) -> None:
    for number in range(25):
        await resources.synthesis.send(f"alice {number}", group="alice")
    assert await _bodies(resources.synthesis) == [f"alice {number}" for number in range(10)]
    await resources.synthesis.send("bob 0", group="bob")
    assert await _bodies(resources.synthesis) == ["bob 0", *(f"alice {number}" for number in range(10, 19))]
    assert await _bodies(resources.synthesis) == [f"alice {number}" for number in range(19, 25)]


async def test_store_recovers_after_sigkill(own_settings: Settings, tmp_path: Path) -> None:
    async with running(own_settings, tmp_path), connect(own_settings) as resources:
        open_job, done_job = _request(resources), _request(resources)
        await acceptance.accept(resources, open_job)
        await acceptance.accept(resources, done_job)
        await jobs.write_outcome(resources, Succeeded(**outcome_fields(done_job, resources.clock())))
        etag = await resources.bucket.put_once("audio/voices/nova/source.wav", b"RIFF", "audio/wav")

    async with running(own_settings, tmp_path), connect(own_settings) as resources:
        stored = await resources.bucket.read("audio/voices/nova/source.wav")
        assert stored is not None
        assert (stored.body, stored.content_type, stored.etag) == (b"RIFF", "audio/wav", etag)
        assert await resources.bucket.put_once("audio/voices/nova/source.wav", b"other", "audio/wav") is None
        tickets = [parse_queue_message(body) for body in await _bodies(resources.synthesis)]
        assert [ticket and ticket.job_id for ticket in tickets] == [open_job.job_id]
        assert await _event_keys(resources) == [layout.outcome(done_job.job_id)]


async def test_refill_resends_recent_events_only(resources: Resources) -> None:
    key = layout.outcome(_request(resources).job_id)
    await resources.bucket.put(key, b"{}", JSON)
    assert await _event_keys(resources) == [key]
    await refill_queues(resources, down_since=utc_now() + timedelta(minutes=5))
    assert await _event_keys(resources) == []
    await refill_queues(resources, down_since=utc_now())
    assert await _event_keys(resources) == [key]


async def test_store_supports_groups_and_quotas(resources: Resources) -> None:
    few = resources.settings.model_copy(update={"requests_per_minute": 40})
    async with connect(few) as one, connect(few) as other:
        with capture_logs() as logs:
            await resources.synthesis.send("one", group="alice")
            await resources.synthesis.send("two", group="alice")
        assert logs == []
        assert sorted(await _bodies(resources.synthesis)) == ["one", "two"]
        moment = utc_now()
        shares = [
            replace(process, clock=lambda: moment, usage=UsageWindows(process.bucket, lambda: moment))
            for process in (one, other)
        ]
        takes = [rate_limits.take_request(shares[number % 2], "alice") for number in range(80)]
        results = await asyncio.gather(*takes, return_exceptions=True)
        assert {type(result) for result in results} == {QuotaStatus, TooMany}
        assert sum(isinstance(result, QuotaStatus) for result in results) == 40


async def test_versions_are_listed_and_deleted(resources: Resources) -> None:
    for key in ("v/a", "v/b"):
        await resources.voices.put(key, b"one", "text/plain")
        await resources.voices.put(key, b"two", "text/plain")
    found = [version async for version in resources.voices.list_versions("v/")]
    assert [(version.key, version.is_latest) for version in found] == [("v/a", True), ("v/b", True)]
    await resources.voices.delete_versions(found[:1])
    await resources.voices.delete_versions(found)
    assert [item async for item in resources.voices.list("v/")] == []


async def test_presigned_url_object_and_expiry(resources: Resources) -> None:
    async with httpx.AsyncClient() as client:
        for name in ("mine", "other"):
            await resources.bucket.put(f"audio/previews/{name}.wav", name.encode(), "audio/wav")
        link = await resources.bucket.presign_get(
            "audio/previews/mine.wav", lifetime=timedelta(seconds=3), content_type="audio/wav", disposition="inline"
        )
        assert (await client.get(link)).content == b"mine"
        assert (await client.get(link.replace("mine.wav", "other.wav"))).status_code == 403
        assert (await client.put(link, content=b"mine")).status_code == 403

        async def is_over() -> bool:
            return (await client.get(link)).status_code == 403

        await eventually(is_over, seconds=10)


@pytest.mark.parametrize(
    ("changed", "body", "status"),
    [
        ({}, b"x" * 10, 204),
        ({}, b"x" * 11, 400),
        ({"Content-Type": "text/html"}, b"x", 403),
        ({"key": "audio/uploads/other/upload"}, b"x", 403),
    ],
)
async def test_upload_form_limits(resources: Resources, changed: dict[str, str], body: bytes, status: int) -> None:
    async with httpx.AsyncClient() as client:
        form = await resources.bucket.presign_post(
            "audio/uploads/mine/upload", content_type="audio/wav", max_bytes=10, lifetime=timedelta(minutes=1)
        )
        answer = await client.post(form.url, data=form.fields | changed, files={"file": body})
        assert answer.status_code == status
        stored = [item.key async for item in resources.bucket.list("audio/uploads/")]
        assert stored == (["audio/uploads/mine/upload"] if status == 204 else [])


async def test_long_poll_returns_on_arrival(resources: Resources) -> None:
    waits, sends = [], []
    for number in range(9):
        poll = asyncio.create_task(resources.synthesis.receive(1, wait_seconds=10))
        await asyncio.sleep(0.1 + number * 0.002)  # at the beginning of ministack's polling interval
        began = time.perf_counter()
        await resources.synthesis.send("hello")
        sends.append(time.perf_counter() - began)
        (message,) = await poll
        waits.append(time.perf_counter() - began)
        await resources.synthesis.delete([message.receipt])
    # With ministack's polling interval of 100 ms, the message would arrive up to 100 ms after the beginning.
    assert statistics.median(waits) < 2 * statistics.median(sends) + 0.03, (waits, sends)


async def test_cancelled_poll_takes_no_message(resources: Resources) -> None:
    async with connect(resources.settings) as killed:
        await killed.synthesis.ping()
        poll = asyncio.create_task(killed.synthesis.receive(1, wait_seconds=10))
        await asyncio.sleep(0.2)
        poll.cancel()
    await resources.synthesis.send("hello")
    assert await _bodies(resources.synthesis) == ["hello"]
