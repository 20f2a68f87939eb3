"""Simulated storage, queues, connections and engine, as one process sees them."""

import asyncio
import json
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import detangle
import numpy as np

from gpu_runner.engines import EngineLost, Reference, Utterance, VoicePrompt
from gpu_runner.engines.mock import MockPrompt
from gpu_runner.synthesis.engine_loop import OnAudio, Speech
from pipeline.clients.queues import Message, QueueCounts
from pipeline.clients.storage import ObjectVersion
from pipeline.clients.webhook_client import WebhookRefused
from pipeline.contract.messages.message_batches import AddressedMessage, Undelivered
from pipeline.contract.records import ReplyTo
from pipeline.errors import ConnectionGone, Unavailable
from tests.simulation.faults import Process, ProcessSwitch, SimulatedTime
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.queue import FakeQueue

if TYPE_CHECKING:
    from tests.simulation.world import World

DUPLICATED_SHARE = 0.04  # of the messages of queues
SPEECH_SECONDS = 2.0
SAMPLE_RATE = 1000  # little audio is quickly hashed and copied
PIECES, PIECE_SAMPLES = 4, SAMPLE_RATE // 4


class SimulatedBucket(FakeBucket):
    """The view that one process has of a bucket."""

    def __init__(self, world: "World", process: Process, name: str) -> None:
        super().__init__(process.time, has_versions=name == "voices")  # type: ignore[arg-type]
        self._world = world
        self._process = process
        self._name = name
        self.objects = world.objects[name]
        self.versions = world.versions[name]
        self.switch = ProcessSwitch(process, name)

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        await super().put(key, body, content_type)
        await self._changed(key, body, "put")

    async def put_once(
        self, key: str, body: bytes, content_type: str, *, metadata: Mapping[str, str] | None = None
    ) -> str | None:
        etag = await super().put_once(key, body, content_type, metadata=metadata)
        return await self._written(key, body, "put_once", etag)

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        replaced = await super().replace(key, body, content_type, etag=etag)
        return await self._written(key, body, "replace", replaced)

    async def delete(self, keys: Iterable[str]) -> None:
        if given := list(keys):  # otherwise, there is no request
            await super().delete(given)
            await self._process.after(f"{self._name} delete")

    async def delete_versions(self, versions: Iterable[ObjectVersion]) -> None:
        await super().delete_versions(versions)
        await self._process.after(f"{self._name} delete_versions")

    def _remove(self, key: str) -> None:
        if key in self.objects:
            super()._remove(key)
            self._world.changed(self._name, key, None)

    async def _written(self, key: str, body: bytes, call: str, etag: str | None) -> str | None:
        """End a conditional write. The client repeats it if its response is lost: then it is refused."""
        if etag is None:
            return None
        try:
            await self._changed(key, body, call)
        except Unavailable:
            if detangle.flip():
                return None
            raise
        return etag

    async def _changed(self, key: str, body: bytes, call: str) -> None:
        self._world.changed(self._name, key, body)
        await self._process.after(f"{self._name} {call}")


class StoredQueue(FakeQueue):
    """The messages of a queue, which outlive processes."""

    def __init__(
        self,
        name: str,
        *,
        visibility_seconds: int,
        max_receives: int | None = None,
        dead_letters: FakeQueue | None = None,
    ) -> None:
        self.name = name
        super().__init__(
            SimulatedTime(),  # type: ignore[arg-type]
            visibility_seconds=visibility_seconds,
            max_receives=max_receives,
            dead_letters=dead_letters,
        )

    async def _wait_for_visible(self, end: datetime) -> None:
        """Wait as the fake does, without a task."""
        next_visible = min([end, *(message.visible_at for message in self._messages)])
        self._arrival.clear()
        loop = asyncio.get_running_loop()
        timer = loop.call_later((next_visible - self._time()).total_seconds(), self._arrival.set)
        try:
            await self._arrival.wait()
        finally:
            timer.cancel()


class SimulatedQueue:
    """The view that one process has of a queue."""

    def __init__(self, world: "World", process: Process, queue: StoredQueue) -> None:
        self._world = world
        self._process = process
        self._queue = queue

    async def send(self, body: str, *, group: str | None = None) -> None:
        await self._before("send")
        await self._queue.send(body, group=group)
        if self._world.faults.occurs(DUPLICATED_SHARE):
            await self._queue.send(body, group=group)  # at least once
        await self._process.after(f"{self._queue.name} send")

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        await self._before("receive")
        # A receive that returns nothing is repeated at once, so this one lasts as long as several.
        messages = await self._queue.receive(limit, wait_seconds=10 * wait_seconds)
        if messages:
            await self._process.after(f"{self._queue.name} receive")
        return messages

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        await self._before("delete")
        failed = await self._queue.delete(receipts)
        await self._process.after(f"{self._queue.name} delete")
        return failed

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        await self._before("hide")
        return await self._queue.hide(receipts, seconds)

    async def counts(self) -> QueueCounts:
        return await self._queue.counts()

    async def depth(self) -> int:
        return await self._queue.depth()

    async def ping(self) -> None:
        await self._before("ping")

    def _before(self, call: str) -> Coroutine[Any, Any, None]:
        return self._process.before(f"{self._queue.name} {call}")


class SimulatedConnections:
    """Delivers messages to the simulated clients."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process

    async def post(self, to: ReplyTo, body: bytes) -> None:
        await self._process.before("post")
        if self._world.faults.occurs(self._world.faults.unreachable_share):
            raise Unavailable("simulated (client unreachable)")
        if not self._deliver(to, body):
            raise ConnectionGone(f"{to.connection_id} is gone")
        await self._process.after("post")

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        await self._process.before("post")
        if self._world.faults.occurs(self._world.faults.unreachable_share):
            raise Unavailable("simulated (client unreachable)")
        sent = [(id_, self._deliver(ReplyTo(endpoint=endpoint, connection_id=id_), body)) for id_, body in messages]
        await self._process.after("post")
        return Undelivered(frozenset(id_ for id_, is_delivered in sent if not is_delivered))

    def _deliver(self, to: ReplyTo, body: bytes) -> bool:
        if to.endpoint in self._world.waiters:
            process, waiters = self._world.waiters[to.endpoint]
            if process.has_crashed:
                raise Unavailable("simulated (connection refused)")
            return waiters.deliver(to.connection_id, body)
        client = self._world.inboxes.get(to.connection_id)
        if client is not None:
            client.append(json.loads(body))
        return client is not None

    async def close(self, to: ReplyTo) -> None:
        self._world.inboxes.pop(to.connection_id, None)


class SimulatedReceiver:
    """The server of an owner, which receives webhooks."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        try:
            await self._process.before("webhooks post")
        except Unavailable as error:
            raise WebhookRefused("simulated") from error
        if self._world.time() < self._world.receiver_up_at:
            raise WebhookRefused("simulated outage")
        self._world.webhooks.append(headers["webhook-id"])
        await self._process.after("webhooks post")


class SimulatedEngine:
    """Takes the place of `EngineThread`, without a thread. Each synthesis gives other audio."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def make_prompt(self, reference: Reference) -> VoicePrompt:
        await asyncio.sleep(0.5)
        return MockPrompt(f0=120.0, level=0.1)

    async def restore_prompt(self, document: bytes) -> VoicePrompt:
        return MockPrompt.model_validate_json(document)

    async def synthesize(self, utterance: Utterance, on_audio: OnAudio | None = None) -> Speech:
        self._world.syntheses += 1
        piece = np.full(PIECE_SAMPLES, self._world.syntheses / 1000, np.float32)
        for _ in range(PIECES):
            await asyncio.sleep(SPEECH_SECONDS / PIECES)
            if on_audio:
                on_audio(piece)
        return Speech(np.tile(piece, PIECES), (), SPEECH_SECONDS, "stop", may_retry=False)

    async def lost(self) -> EngineLost:
        future: asyncio.Future[EngineLost] = asyncio.get_running_loop().create_future()
        return await future

    def close(self) -> None:
        """Nothing waits."""
