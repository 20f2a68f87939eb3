"""Polling for new outcomes, for a storage without event notifications."""

import poll_outcomes

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages import events


async def _sent(resources: Resources) -> list[str]:
    return [
        key
        for message in await resources.events.receive(10, wait_seconds=0)
        for key in events.keys_created(message.body)
    ]


async def test_poll_sends_each_outcome_event_once(resources: Resources) -> None:
    first, second = (layout.outcome(resources.new_id()) for _ in range(2))
    await resources.bucket.put(first, b"{}", JSON)
    await resources.bucket.put(layout.request(resources.new_id()), b"{}", JSON)
    sent = await poll_outcomes.poll(resources, set())
    assert await _sent(resources) == [first]
    await resources.bucket.put(second, b"{}", JSON)
    sent = await poll_outcomes.poll(resources, sent)
    assert await _sent(resources) == [second]
    assert await poll_outcomes.poll(resources, sent) == {first, second}
    assert await _sent(resources) == []
