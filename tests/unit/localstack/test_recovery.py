"""Queues that lost their messages are filled again from what is stored."""

from provisioning.recovery import refill_queues

from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Source
from tests import orders
from tests.fakes import Fakes


async def test_a_job_is_sent_again_for_its_owner(world: Fakes) -> None:
    for owner in ("alice", None):
        request = orders.request(world.resources, Source(session_id="s", owner=owner), "r")
        await world.bucket.put(layout.request(request.job_id), request.to_json(), JSON)
        await world.time.advance(seconds=1)
    await refill_queues(world.resources)
    assert world.synthesis.groups == ["alice", None]
