"""The real engine in the real worker, between a queue and object storage over HTTP."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any

import numpy as np
import pytest

from gpu_runner.engines import EngineLost, Reference, Utterance
from gpu_runner.engines.load import load_engine
from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.worker import run_worker
from pipeline.audio import reference_audio
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Options, ReplyTo, Request, Source, Subscriber, Succeeded
from pipeline.domain import acceptance, jobs
from pipeline.settings import Settings
from tests.qwen.stages import FailingRunner, allocating
from tests.support.engines import synthesize
from tests.support.fake_service import FakeConnections
from tests.support.job_requests import (
    TRANSCRIPTION,
    failure_of,
    make_request,
    store_upload,
    store_voice,
    submit_session_job,
    submit_upload_job,
    submit_voice_job,
    success_of,
)
from tests.support.moto_server import provisioned, run_moto
from tests.support.speech import voice
from tests.support.waiting import eventually
from tests.support.workers import real_time_worker

SEEDED = Options(seed=11, max_seconds=1)


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment, run_moto() as address:
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield address


@pytest.fixture
async def resources(aws: str, settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[Resources]:
    name = str(abs(hash(request.node.name)) % 10**9)
    changes = {
        "tts_backend": "qwen",
        "aws_endpoint_url": aws,
        "bucket": f"bucket-{name}",
        "voices_bucket": f"voices-{name}",
        "synthesis_queue": f"synthesis-{name}",
        "synthesis_dead_letter_queue": f"synthesis-dead-{name}",
        "events_queue": f"events-{name}",
        "events_dead_letter_queue": f"events-dead-{name}",
        "webhooks_queue": f"webhooks-{name}",
        "webhooks_dead_letter_queue": f"webhooks-dead-{name}",
        "receive_wait_seconds": 1,
    }
    async with provisioned(settings.model_copy(update=changes)) as wired:
        yield wired


async def accept(resources: Resources, request: Request, **changes: object) -> Request:
    """Send an order again, as another job that differs in something."""
    changed = request.model_copy(update={"job_id": resources.new_id(), **changes})
    await acceptance.accept(resources, changed)
    return changed


async def outcomes(resources: Resources, *requests: Request) -> None:
    for request in requests:
        await eventually(partial(jobs.read_outcome, resources, request.job_id), seconds=60)


async def samples_of(resources: Resources, request: Request) -> reference_audio.Samples:
    preview = (await success_of(resources, request)).preview
    assert preview is not None
    body = await resources.bucket.get(preview.key)
    assert body is not None
    return reference_audio.decode_wav(body).samples


async def test_upload_to_saved_voice(resources: Resources, engine: QwenEngine) -> None:
    first = await submit_upload_job(resources)
    session_id = await store_upload(resources)
    async with real_time_worker(resources, load_engine(resources.settings, lambda _: None)):
        again = await accept(resources, await submit_session_job(resources, session_id), options=SEEDED)
        reference_id = await store_voice(resources, "nova", pitch=200)
        saved = await accept(resources, await submit_voice_job(resources, "nova", reference_id), options=SEEDED)
        await outcomes(resources, first, again, saved)

    document = await resources.bucket.get(layout.session(session_id).embedding)
    assert document is not None
    assert json.loads(document)["mode"] == "in_context"
    kept = await resources.voices.get(layout.voice(None, "nova").embedding)
    assert kept is not None
    assert json.loads(kept)["mode"] == "x_vector"  # it was saved without a transcription

    for request, stored in ((again, document), (saved, kept)):
        utterance = Utterance("x", request.text, engine.restore_prompt(stored), SEEDED)
        expected = synthesize(engine, utterance)["x"].samples
        heard = await samples_of(resources, request)
        assert np.abs(heard - expected).max() < 1e-3  # spoken with others, rounded to 16 bits


async def test_rejected_job_leaves_others(resources: Resources) -> None:
    bad = await submit_upload_job(resources, text="<|im_end|>")
    good = await submit_upload_job(resources, pitch=180)
    async with real_time_worker(resources, load_engine(resources.settings, lambda _: None)):
        await outcomes(resources, bad, good)
    outcome = await failure_of(resources, bad)
    assert (outcome.code, outcome.field) == ("invalid_input", "text")
    await success_of(resources, good)


@pytest.mark.usefixtures("endless")
async def test_warnings_in_outcome(resources: Resources, model: Model) -> None:
    session_id = await store_upload(resources)
    request = await accept(
        resources, await submit_session_job(resources, session_id), options=Options(max_seconds=1)
    )
    engine = QwenEngine(lambda: model, capacity=4, model="tiny")
    async with real_time_worker(resources, engine):
        await outcomes(resources, request)
    outcome = await jobs.read_outcome(resources, request.job_id)
    assert isinstance(outcome, Succeeded)
    assert outcome.warnings == ("The speech was cut off after 1 s, as max_seconds asks.",)


@pytest.mark.parametrize("damage", ["cut short", "another model's", "hostile"])
async def test_damaged_prompt_replaced(resources: Resources, engine: QwenEngine, damage: str) -> None:
    session_id = await store_upload(resources)
    whole = engine.make_prompt(Reference(voice(120), TRANSCRIPTION)).to_json()
    stored = {
        "cut short": whole[:-100],
        "another model's": json.dumps(json.loads(whole) | {"revision": "other"}).encode(),
        "hostile": b"\x80\x04c__builtin__\neval\n",
    }[damage]
    key = layout.session(session_id).embedding
    await resources.bucket.put(key, stored, JSON)
    async with real_time_worker(resources, engine):
        request = await submit_session_job(resources, session_id)
        await outcomes(resources, request)
    await success_of(resources, request)
    replaced = await resources.bucket.get(key)
    assert replaced is not None
    assert json.loads(replaced)["revision"] == engine.loaded.identity.revision
    assert engine.restore_prompt(replaced).mode == "in_context"


async def test_lost_device_returns_job_to_queue(resources: Resources, model: Model) -> None:
    request = await submit_upload_job(resources)
    broken = FailingRunner(iter([RuntimeError("CUDA error: device-side assert triggered")]))
    engine = QwenEngine(lambda: model, capacity=4, model="tiny", allocate=allocating(codes=broken))
    with pytest.raises(EngineLost, match="device-side assert"):
        await run_worker(resources, lambda _: engine, asyncio.Event())
    assert await jobs.read_outcome(resources, request.job_id) is None
    async with real_time_worker(resources, QwenEngine(lambda: model, capacity=4, model="tiny")):
        await outcomes(resources, request)
    await success_of(resources, request)


class Listeners(FakeConnections):
    """Clients that hear a job's chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.started = list[dict[str, Any]]()
        self.chunks = list[dict[str, Any]]()
        self.heard_three = Event()

    async def post(self, to: ReplyTo, body: bytes) -> None:
        """See `Connections.post`."""
        message = json.loads(body)
        (self.chunks if message["type"] == "tts_audio" else self.started).append(message["data"])
        if len(self.chunks) == 3:
            self.heard_three.set()


@pytest.mark.usefixtures("endless")
async def test_stream_continues_on_other_worker(resources: Resources, model: Model) -> None:
    listeners = Listeners()
    heard = replace(resources, connections=listeners)
    subscriber = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="c"), stream=True)
    plain = make_request(heard, Source(voice_id="nova"), await store_voice(heard, "nova")).model_copy(
        update={"options": Options(max_seconds=2)}
    )
    request = await accept(heard, plain, subscriber=subscriber)

    def until_three_chunks_are_heard() -> Iterator[Exception | None]:
        yield from [None] * 12
        assert listeners.heard_three.wait(20)
        yield RuntimeError("CUDA error: device-side assert triggered")

    dying = FailingRunner(until_three_chunks_are_heard())
    engine, next_one = (
        QwenEngine(lambda: model, capacity=4, model="tiny", allocate=allocating(codes=runner))
        for runner in (dying, None)
    )
    assert engine.loaded is next_one.loaded  # as at the start of a worker
    with pytest.raises(EngineLost):
        await run_worker(heard, lambda _: engine, asyncio.Event())
    before = len(listeners.chunks)
    # Others in the batch: the samples are rounded differently.
    async with real_time_worker(heard, next_one):
        await outcomes(heard, request, *[await accept(heard, plain) for _ in range(2)])
    assert [one["restarted"] for one in listeners.started] == [False, True]
    assert len({one["take"] for one in [*listeners.started, *listeners.chunks]}) == 1
    first, second = listeners.chunks[:before], listeners.chunks[before:]
    joined = [*first, *(one for one in second if one["seq"] > first[-1]["seq"])]
    assert [one["seq"] for one in joined] == list(range(len(joined)))
    samples = np.frombuffer(b"".join(b64decode(one["audio"]) for one in joined), "<i2") / 32768
    assert np.abs(samples - await samples_of(heard, request)).max() < 1e-3
