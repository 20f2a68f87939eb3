"""`Resources` over in-memory fakes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.clients.resources import Resources
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract.messages.message_batches import AddressedMessage, Undelivered
from pipeline.contract.records import ReplyTo
from pipeline.errors import ConnectionGone
from pipeline.ids import id_maker
from pipeline.settings import Settings
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import FakeTime
from tests.support.fakes.queue import FakeQueue


class NoConnections:
    """A `pipeline.clients.connections.Connections` without clients."""

    async def post(self, to: ReplyTo, body: bytes) -> None:
        raise ConnectionGone(f"{to.connection_id} is gone")

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        return Undelivered(gone=frozenset(to for to, _ in messages))

    async def close(self, to: ReplyTo) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Fakes:
    """`Resources` over fakes, and the fakes themselves."""

    time: FakeTime
    bucket: FakeBucket
    voices: FakeBucket
    audit: FakeBucket
    synthesis: FakeQueue
    synthesis_dead_letters: FakeQueue
    resources: Resources


def make_fakes(settings: Settings, time: FakeTime | None = None) -> Fakes:
    """Create resources over fakes, like `pipeline.clients.resources.connect`."""
    time = time or FakeTime()
    bucket, voices, audit = FakeBucket(time), FakeBucket(time), FakeBucket(time)
    dead_letters = FakeQueue(time)
    synthesis = FakeQueue(
        time,
        visibility_seconds=settings.visibility_timeout_seconds,
        max_receives=settings.max_receives,
        dead_letters=dead_letters,
    )
    resources = Resources(
        settings=settings,
        clock=time,
        new_id=id_maker(time),
        bucket=bucket,
        voices=voices,
        audit=audit,
        synthesis=synthesis,
        synthesis_dead_letters=dead_letters,
        events=FakeQueue(time),
        webhooks=FakeQueue(time),
        connections=NoConnections(),
        usage=UsageWindows(bucket, time),
        decoding=asyncio.Semaphore(settings.decodes_at_once),
    )
    return Fakes(time, bucket, voices, audit, synthesis, dead_letters, resources)
