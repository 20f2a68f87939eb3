"""Receiving, retries, outages and visibility timeouts."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from structlog.testing import capture_logs

from pipeline.clients.queues import Message
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import QueueMessage, parse_queue_message
from pipeline.domain import acceptance, jobs
from pipeline.errors import InvalidInput
from pipeline.settings import Settings
from tests.support.engines import ScriptedEngine
from tests.support.fakes.clock import settle
from tests.support.fakes.queue import FakeQueue
from tests.support.fakes.resources import Fakes, make_fakes
from tests.support.job_requests import (
    TEXT,
    store_upload,
    submit_session_job,
    submit_upload_job,
    success_of,
)
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


async def test_ten_messages_deleted_in_one_call(fakes: Fakes) -> None:
    requests = [await submit_upload_job(fakes.resources) for _ in range(10)]
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(*(request.job_id for request in requests))
        await until(lambda: fakes.synthesis.bodies == [])
        assert fakes.synthesis.switch.count("delete") == 1


async def test_message_without_job_is_deleted(fakes: Fakes) -> None:
    for body in (
        "",
        "not json",
        "[]",
        '{"job_id": "../../etc"}',
        '{"job_id": 1}',
        QueueMessage(job_id=fakes.resources.new_id()).model_dump_json(),
    ):
        await fakes.synthesis.send(body)
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.synthesis.switch.count("receive") > 1)
        await settle()
        await fakes.time.advance(1)
        await until(lambda: fakes.synthesis.bodies == [])
    assert list(fakes.bucket.objects) == []


def _was_returned(fakes: Fakes, *, times: int) -> bool:
    return fakes.synthesis.switch.count("hide") == times


async def test_engine_failure_retried_with_backoff(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.step_errors = [RuntimeError("out of memory") for _ in range(3)]
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        for tries, pause in ((1, 1), (2, 2), (3, 4)):
            await until(partial(_was_returned, fakes, times=tries))
            await fakes.time.advance(pause - 0.1)
            assert len(engine.admitted) == tries
            await fakes.time.advance(0.1)
        await worker.until_ended(request.job_id)
    await success_of(fakes.resources, request)


async def test_failed_step_retries_whole_batch(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    requests = [await submit_upload_job(fakes.resources) for _ in range(3)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 3)
        engine.step_errors = [RuntimeError("out of memory")]
        await until(lambda: not engine.active)
        engine.paused = False
        await worker.advance_until_ended(*(request.job_id for request in requests))
    assert sorted(engine.admitted) == sorted(2 * [request.job_id for request in requests])


async def test_repeated_failure_is_dead_letter(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.errors[TEXT] = RuntimeError("no such luck")
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine):
        while not fakes.synthesis_dead_letters.bodies:
            await fakes.time.advance(1)
            await asyncio.sleep(0.002)
    assert len(engine.admitted) == fakes.resources.settings.max_receives
    (dead,) = fakes.synthesis_dead_letters.bodies
    message = parse_queue_message(dead)
    assert message is not None
    assert message.job_id == request.job_id
    assert await jobs.read_outcome(fakes.resources, request.job_id) is None


async def test_unknown_request_version_is_returned(fakes: Fakes) -> None:
    job_id = fakes.resources.new_id()
    await fakes.bucket.put(layout.request(job_id), json.dumps({"job_id": job_id, "text": TEXT}).encode(), JSON)
    await acceptance.enqueue(fakes.resources, job_id)
    with capture_logs() as logs:
        async with fake_time_worker(fakes, ScriptedEngine()):
            await until(lambda: fakes.synthesis.switch.count("hide") == 1)
    assert len(fakes.synthesis.bodies) == 1
    assert TEXT not in str([str(entry.get("exc_info", "")) + str(entry) for entry in logs])


async def test_redelivery_after_end_is_deleted(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    request = await submit_upload_job(fakes.resources)
    await jobs.write_outcome(fakes.resources, jobs.failure(request, InvalidInput("no"), fakes.time.now))
    await fakes.synthesis.receive(1, wait_seconds=0)
    await fakes.time.advance(60)
    async with fake_time_worker(fakes, engine):
        await until(lambda: fakes.bucket.switch.count("read"))
        await settle()
        await fakes.time.advance(1)
        await until(lambda: fakes.synthesis.bodies == [])
    assert engine.admitted == []


async def test_duplicate_message_of_running_job(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        await acceptance.enqueue(fakes.resources, request.job_id)
        await until(lambda: fakes.synthesis.visible == [])
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert engine.admitted == [request.job_id]
    assert fakes.synthesis.bodies == []


async def test_queue_outage(fakes: Fakes) -> None:
    fakes.synthesis.switch.is_up = False
    with capture_logs() as logs:
        async with fake_time_worker(fakes, ScriptedEngine()) as worker:
            await until(lambda: fakes.synthesis.switch.count("receive"))
            await fakes.time.advance(600)
            tries = fakes.synthesis.switch.count("receive")
            fakes.synthesis.switch.is_up = True
            request = await submit_upload_job(fakes.resources)
            await fakes.time.advance(30)
            await worker.until_ended(request.job_id)
    assert 10 < tries < 40
    assert [entry["dependency"] for entry in logs if entry["event"] == "dependency unavailable"] == ["queue"]
    assert [entry["dependency"] for entry in logs if entry["event"] == "dependency available again"] == ["queue"]


async def test_storage_outage_uses_no_attempts(fakes: Fakes) -> None:
    requests = [await submit_upload_job(fakes.resources) for _ in range(3)]
    with capture_logs() as logs:
        async with fake_time_worker(fakes, ScriptedEngine()) as worker:
            fakes.bucket.switch.is_up = False
            await until(lambda: fakes.synthesis.switch.count("hide"))
            await fakes.time.advance(600)
            fakes.bucket.switch.is_up = True
            await fakes.time.advance(30)
            await worker.until_ended(*(request.job_id for request in requests))
    assert fakes.synthesis_dead_letters.bodies == []
    assert [entry["dependency"] for entry in logs if entry["event"] == "dependency unavailable"] == ["storage"]


async def test_publishing_retried_after_short_outage(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        fakes.bucket.switch.is_up = False
        engine.paused = False
        await until(lambda: fakes.bucket.switch.count("put_once"))
        await settle()
        await fakes.time.advance(2)
        fakes.bucket.switch.is_up = True
        await fakes.time.advance(10)
        await worker.until_ended(request.job_id)
    assert engine.admitted == [request.job_id]


async def test_slow_job_stays_hidden(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        for _ in range(10):
            await fakes.time.advance(30)
            assert fakes.synthesis.visible == []
        engine.paused = False
        await worker.until_ended(request.job_id)
        assert fakes.synthesis.switch.count("hide") == 15  # 300 s, one for every 20 s
    assert engine.admitted == [request.job_id]


async def test_failed_extension_is_repeated(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        fakes.synthesis.switch.is_up = False
        await fakes.time.advance(50)
        fakes.synthesis.switch.is_up = True
        await fakes.time.advance(2)
        await fakes.time.advance(15)
        assert fakes.synthesis.visible == []
        engine.paused = False
        await worker.until_ended(request.job_id)


async def test_receives_no_more_than_capacity(settings: Settings) -> None:
    fakes = make_fakes(settings.model_copy(update={"worker_batch_size": 3}))
    engine = ScriptedEngine(capacity=2)
    engine.paused = True
    requests = [await submit_upload_job(fakes.resources) for _ in range(7)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 2 and len(fakes.synthesis.visible) == 4)
        await fakes.time.advance(50)
        assert len(fakes.synthesis.visible) == 4
        engine.paused = False
        await worker.until_ended(*(request.job_id for request in requests))


class CountingQueue(FakeQueue):
    """Remembers how many polls were under way at the same time."""

    polling = most_at_once = 0

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        """See `Queue.receive`."""
        self.polling += 1
        self.most_at_once = max(self.most_at_once, self.polling)
        try:
            return await super().receive(limit, wait_seconds=wait_seconds)
        finally:
            self.polling -= 1


async def test_backlog_uses_parallel_polls(
    settings: Settings,
) -> None:
    fakes = make_fakes(settings.model_copy(update={"worker_batch_size": 64}))
    queue = CountingQueue(fakes.time)
    fakes = replace(fakes, synthesis=queue, resources=replace(fakes.resources, synthesis=queue))
    engine = ScriptedEngine(capacity=64)
    engine.paused = True
    session_id = await store_upload(fakes.resources)
    requests = [await submit_session_job(fakes.resources, session_id) for _ in range(60)]
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: len(engine.active) == 60)
        assert queue.switch.count("receive") <= 9
        assert queue.most_at_once > 3
        queue.most_at_once = 0
        engine.paused = False
        await worker.until_ended(*(request.job_id for request in requests))
        await fakes.time.advance(60)
        assert queue.most_at_once == 1


async def test_receives_while_synthesizing(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    async with fake_time_worker(fakes, engine) as worker:
        first = await submit_upload_job(fakes.resources)
        await until(lambda: engine.active == [first.job_id])
        second = await submit_upload_job(fakes.resources)
        await until(lambda: engine.active == [first.job_id, second.job_id])
        engine.paused = False
        await worker.until_ended(first.job_id, second.job_id)
