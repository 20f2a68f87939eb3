"""Queues that lost their messages are filled again from what is stored."""

from provisioning.recovery import refill_queues

from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Source
from tests.support import job_requests
from tests.support.fakes.resources import Fakes


async def test_refill_queues_keeps_owner(fakes: Fakes) -> None:
    for owner in ("alice", None):
        request = job_requests.make_request(fakes.resources, Source(session_id="s", owner=owner), "r")
        await fakes.bucket.put(layout.request(request.job_id), request.to_json(), JSON)
        await fakes.time.advance(seconds=1)
    await refill_queues(fakes.resources)
    assert fakes.synthesis.groups == ["alice", None]
