"""A worker that streams: the maker hears the audio while it is made, and a cancelled job frees its place."""

import asyncio
import json
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from gpu_runner.engines import Finished, Piece
from gpu_runner.streaming.audio_stream import Attempt, AudioStream
from gpu_runner.streaming.posts import Posts
from gpu_runner.synthesis.revocations import Revocations
from gpu_runner.synthesis.watch import POLL_SECONDS, Watch, Watches, keys_of_jobs
from pipeline.audio.reference_audio import Samples
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import ReplyTo, Request, Source, Subscriber
from pipeline.domain import acceptance, jobs
from tests.support.engines import ScriptedEngine
from tests.support.fake_service import FakeConnections
from tests.support.fakes.clock import settle
from tests.support.fakes.resources import Fakes
from tests.support.job_requests import failure_of, make_request, store_upload, submit_upload_job, success_of
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


class SlowConnections(FakeConnections):
    """Clients that read only while `read` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.read = asyncio.Event()

    async def post(self, to: ReplyTo, body: bytes) -> None:
        """See `Connections.post`."""
        await self.read.wait()
        await super().post(to, body)


@pytest.fixture
async def connections() -> SlowConnections:
    connections = SlowConnections()
    connections.read.set()
    return connections


@pytest.fixture
async def streaming(fakes: Fakes, connections: SlowConnections) -> Fakes:
    return replace(fakes, resources=replace(fakes.resources, connections=connections))


async def accept(fakes: Fakes, *, stream: bool) -> Request:
    session_id = await store_upload(fakes.resources)
    subscriber = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="c"), stream=stream)
    request = make_request(fakes.resources, Source(session_id=session_id), session_id)
    request = request.model_copy(update={"subscriber": subscriber})
    await acceptance.accept(fakes.resources, request)
    return request


def messages(connections: FakeConnections) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in connections.posted]


def pcm(connections: FakeConnections) -> bytes:
    audio = (message["data"]["audio"] for message in messages(connections) if message["type"] == "tts_audio")
    return b"".join(map(b64decode, audio))


async def test_audio_sent_before_outcome(streaming: Fakes, connections: SlowConnections) -> None:
    request = await accept(streaming, stream=True)
    async with fake_time_worker(streaming, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
        sent = messages(connections)
    assert [message["type"] for message in sent[:2]] == ["progress", "tts_audio"]
    assert (sent[0]["data"]["status"], sent[0]["data"]["restarted"]) == ("started", False)
    assert pcm(connections) == streaming.bucket.objects[layout.preview(request.job_id)].body[44:]


async def test_no_subscription_no_messages(streaming: Fakes, connections: SlowConnections) -> None:
    request = await accept(streaming, stream=False)
    async with fake_time_worker(streaming, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    assert connections.posted == []


async def test_slow_client_delays_no_job(streaming: Fakes, connections: SlowConnections) -> None:
    engine = ScriptedEngine(capacity=1)
    connections.read.clear()
    slow = await accept(streaming, stream=True)
    other = await submit_upload_job(streaming.resources)
    async with fake_time_worker(streaming, engine) as worker:
        await worker.until_ended(slow.job_id, other.job_id)
        connections.read.set()
    assert await success_of(streaming.resources, slow)
    assert connections.posted == []


async def test_gone_client_job_completes(streaming: Fakes, connections: SlowConnections) -> None:
    connections.gone.add("c")
    request = await accept(streaming, stream=True)
    async with fake_time_worker(streaming, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    assert await success_of(streaming.resources, request)


async def test_redelivery_sends_same_chunks(streaming: Fakes, connections: SlowConnections) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await accept(streaming, stream=True)
    async with fake_time_worker(streaming, engine) as worker:
        await until(lambda: engine.active)
        engine.step_errors = [RuntimeError("out of memory")]
        await until(lambda: streaming.synthesis.switch.count("hide"))
        engine.paused = False
        await worker.advance_until_ended(request.job_id)
    started = [message["data"] for message in messages(connections) if message["type"] == "progress"]
    assert [data["restarted"] for data in started] == [False, True]
    assert {message["data"]["take"] for message in messages(connections)} == {"mock-1"}
    assert pcm(connections) == streaming.bucket.objects[layout.preview(request.job_id)].body[44:]


class Speaking(ScriptedEngine):
    """One that returns a piece of the first utterance whenever `piece` is set."""

    piece: Samples | None = None
    seq = 0

    def step(self) -> list[Piece | Finished]:
        """See `Engine.step`."""
        if self.piece is None:
            return super().step()
        event, self.piece, self.seq = Piece(self.active[0], self.seq, self.piece), None, self.seq + 1
        return [event]


async def test_subscription_during_job(streaming: Fakes, connections: SlowConnections) -> None:
    engine = Speaking()
    engine.paused = True
    request = await accept(streaming, stream=False)
    late = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="late"), stream=True)
    other = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="other"))
    async with fake_time_worker(streaming, engine) as worker:
        await until(lambda: engine.active)
        engine.piece = np.full(24_000, 0.5, np.float32)
        await until(lambda: engine.piece is None)
        for subscriber in (late, other):
            key = layout.subscriber(request.job_id, subscriber.reply_to.connection_id)
            await streaming.bucket.put(key, subscriber.to_json(), JSON)
        await streaming.time.advance(2)
        await streaming.time.advance(2)
        engine.piece = np.full(24_000, 0.25, np.float32)
        await until(lambda: len(connections.posted) > 1)
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert {to for to, _ in connections.posted} == {"late"}
    assert messages(connections)[0]["data"]["status"] == "started"
    assert messages(connections)[1]["data"]["seq"] > 0


async def test_subscription_in_queue(streaming: Fakes, connections: SlowConnections) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await accept(streaming, stream=False)
    follower = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="f"), progress=True)
    await streaming.bucket.put(layout.subscriber(request.job_id, "f"), follower.to_json(), JSON)
    streaming.time.now += timedelta(seconds=5)
    async with fake_time_worker(streaming, engine) as worker:
        await until(lambda: connections.posted)
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert messages(connections)[0]["data"]["status"] == "started"


class Irreproducible(ScriptedEngine):
    """One that makes other audio every time."""

    reproducible_as = None


async def test_take_of_non_reproducible_engine(streaming: Fakes, connections: SlowConnections) -> None:
    engine = Irreproducible()
    engine.step_errors = [RuntimeError("out of memory")]
    request = await accept(streaming, stream=True)
    async with fake_time_worker(streaming, engine) as worker:
        await worker.advance_until_ended(request.job_id)
    started = [message["data"]["take"] for message in messages(connections) if message["type"] == "progress"]
    audio = {message["data"]["take"] for message in messages(connections) if message["type"] == "tts_audio"}
    assert len(set(started)) == 2
    assert audio == {started[1]}


@pytest.mark.parametrize(("others", "requests"), [(0, 2), (300, 4)])  # pages of 100 keys
async def test_jobs_of_about_the_same_age_share_a_listing(fakes: Fakes, others: int, requests: int) -> None:
    def keys(job_id: str, count: int) -> set[str]:
        return {layout.subscriber(job_id, f"{number:03d}") for number in range(count)}

    ids = sorted(fakes.resources.new_id() for _ in range(5 + others))
    job_ids, between = [*ids[:3], *ids[-2:]], ids[3:-2]
    expected = {job_id: keys(job_id, count) for job_id, count in zip(job_ids, (2, 0, 20, 1, 120), strict=True)}
    for key in set().union(*expected.values(), *(keys(job_id, 2) for job_id in between)):
        await fakes.bucket.put(key, b"", JSON)
    fakes.bucket.switch.calls.clear()
    assert await keys_of_jobs(fakes.bucket, job_ids) == expected
    assert fakes.bucket.switch.count("list") == requests


# cancelling


async def test_cancelled_running_job_frees_slot(fakes: Fakes) -> None:
    engine = ScriptedEngine(capacity=1)
    engine.paused = True
    requests = {request.job_id: request for request in [await submit_upload_job(fakes.resources) for _ in range(2)]}
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        (cancelled,) = engine.active
        (other,) = requests.keys() - {cancelled}
        await jobs.mark_cancelled(fakes.resources, cancelled)
        await settle()
        await fakes.time.advance(2)
        await until(lambda: engine.active == [other])
        await worker.until_ended(cancelled)
        engine.paused = False
        await worker.until_ended(other)
    assert (await failure_of(fakes.resources, requests[cancelled])).code == "cancelled"
    assert engine.cancelled == [cancelled]
    assert layout.preview(cancelled) not in fakes.bucket.objects


async def test_cancelled_queued_job_not_started(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    request = await submit_upload_job(fakes.resources)
    await jobs.mark_cancelled(fakes.resources, request.job_id)
    fakes.time.now += timedelta(seconds=5)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
    assert (await failure_of(fakes.resources, request)).code == "cancelled"
    assert engine.admitted == []


async def test_late_cancellation_ignored(fakes: Fakes) -> None:
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
        await jobs.mark_cancelled(fakes.resources, request.job_id)
        await fakes.time.advance(10)
    assert await success_of(fakes.resources, request)


async def test_outage_during_cancellation_poll(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        fakes.bucket.switch.is_up = False
        await fakes.time.advance(5)
        fakes.bucket.switch.is_up = True
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert await success_of(fakes.resources, request)


async def test_runaway_with_sent_audio_is_not_retried(streaming: Fakes, connections: SlowConnections) -> None:
    engine = ScriptedEngine()
    engine.runaway_attempts = 1
    request = await accept(streaming, stream=True)
    async with fake_time_worker(streaming, engine) as worker:
        await worker.until_ended(request.job_id)
    assert engine.admitted == [request.job_id]
    assert (await success_of(streaming.resources, request)).finish_reason == "length"
    stored = streaming.bucket.objects[layout.preview(request.job_id)].body
    assert stored.endswith(pcm(connections))


async def test_retried_runaway_has_new_take(streaming: Fakes, connections: SlowConnections) -> None:
    engine = ScriptedEngine()
    engine.reproducible_as, engine.runaway_attempts = "same", 1
    request = await accept(streaming, stream=False)
    subscriber = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="other"), progress=True)
    await streaming.bucket.put(layout.subscriber(request.job_id, "other"), subscriber.to_json(), JSON)
    streaming.time.now += timedelta(seconds=3)
    async with fake_time_worker(streaming, engine) as worker:
        await worker.until_ended(request.job_id)
        await settle()
    started = [one["data"] for one in messages(connections) if one["data"].get("status") == "started"]
    assert [(one["take"], one["restarted"]) for one in started] == [("same", False), ("same-1", True)]
    assert (await success_of(streaming.resources, request)).take == "same-1"


async def test_jobs_are_listed_only_while_one_runs(fakes: Fakes) -> None:
    resources, waits = fakes.resources, list[float]()
    watches = Watches(resources.bucket)
    request = await accept(fakes, stream=False)
    stream = AudioStream(
        Posts(resources.connections), Attempt(request.job_id, "take", 24_000, restarted=False), resources.clock
    )
    watch = Watch(resources, Revocations(resources), request, stream)

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await fakes.time.sleep(seconds)

    polling = asyncio.create_task(watches.poll_forever(sleep))
    await fakes.time.advance(10 * POLL_SECONDS)
    assert waits == []
    with watches.polling(watch):
        await fakes.time.advance(3 * POLL_SECONDS)
    assert fakes.bucket.switch.count("list") == 3
    waits.clear()
    await fakes.time.advance(10 * POLL_SECONDS)
    assert len(waits) <= 1
    polling.cancel()
