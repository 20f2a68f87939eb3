"""Where the storage can't tell of new outcomes, they are looked for."""

import announce

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import events, layout


async def _told(resources: Resources) -> list[str]:
    return [
        key
        for message in await resources.events.receive(10, wait_seconds=0)
        for key in events.keys_created(message.body)
    ]


async def test_each_new_outcome_is_told_once(resources: Resources) -> None:
    first, second = (layout.outcome(resources.new_id()) for _ in range(2))
    await resources.bucket.put(first, b"{}", JSON)
    await resources.bucket.put(layout.request(resources.new_id()), b"{}", JSON)
    told = await announce.look(resources, set())
    assert await _told(resources) == [first]
    await resources.bucket.put(second, b"{}", JSON)
    told = await announce.look(resources, told)
    assert await _told(resources) == [second]
    assert await announce.look(resources, told) == {first, second}
    assert await _told(resources) == []
