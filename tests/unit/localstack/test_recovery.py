"""Queues that lost their messages are filled again from what is stored."""

from dataclasses import replace

from provisioning.recovery import refill_queues

from functions.background import sweep
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Source
from pipeline.domain import jobs
from pipeline.errors import Unavailable
from tests.support import job_requests
from tests.support.fakes.resources import Fakes


async def test_refill_queues_keeps_owner(fakes: Fakes) -> None:
    for owner in ("alice", None):
        request = job_requests.make_request(fakes.resources, Source(session_id="s", owner=owner), "r")
        await fakes.bucket.put(layout.request(request.job_id), request.to_json(), JSON)
        await fakes.time.advance(seconds=1)
    keys = fakes.resources.settings.model_copy(update={"auth": "keys"})
    await refill_queues(replace(fakes.resources, settings=keys))
    assert fakes.synthesis.groups == ["alice", None]


async def test_refill_queues_reads_no_request_without_keys(fakes: Fakes) -> None:
    for number in range(2500):
        key = layout.request(fakes.resources.new_id())
        await fakes.bucket.put(key, f"{number}".encode(), JSON)
    fakes.bucket.switch.calls.clear()
    await refill_queues(fakes.resources)
    assert len(fakes.synthesis.groups) == 2500
    assert fakes.bucket.switch.count("read") == 1
    assert fakes.bucket.switch.count("list") == 2 * 3 + 1


async def test_refill_queues_after_outage(fakes: Fakes) -> None:
    request = job_requests.make_request(fakes.resources, Source(session_id="s"), "r")
    await fakes.bucket.put(layout.request(request.job_id), request.to_json(), JSON)
    await sweep.handle(fakes.resources, {})
    await jobs.write_outcome(fakes.resources, jobs.failure(request, Unavailable("no"), fakes.time()))
    await fakes.time.advance(seconds=3600)
    await refill_queues(fakes.resources)
    (message,) = await fakes.resources.events.receive(10, wait_seconds=0)
    assert request.job_id in message.body
