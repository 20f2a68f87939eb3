"""Stand-ins that pass the same contract tests as S3 and SQS, driven by a clock that the test moves."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import urlencode

from pipeline.clients.queues import BATCH, Message, QueueCounts
from pipeline.clients.resources import Resources
from pipeline.clients.storage import (
    ObjectInfo,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoredObject,
    UploadForm,
)
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract.records import ReplyTo
from pipeline.errors import ConnectionGone, Unavailable
from pipeline.ids import id_maker
from pipeline.settings import Settings

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_SETTLING_TURNS = 50
METADATA_MAX = 2048  # bytes, of S3


class FakeTime:
    """A clock and a `sleep` that go forward only by `advance`; call it to read it, as a `pipeline.ids.Clock`."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self.now = start
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test has advanced the time so far."""
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + timedelta(seconds=seconds), waking))
        await waking

    async def advance(self, seconds: float) -> None:
        """Go forward, waking each sleeper at its own moment and letting it do what it then does."""
        end = self.now + timedelta(seconds=seconds)
        await settle()
        while due := [moment for moment, waking in self._sleepers if moment <= end and not waking.done()]:
            self.now = max(self.now, min(due))
            self._wake()
            await settle()
        self.now = end

    def _wake(self) -> None:
        for moment, waking in self._sleepers:
            if moment <= self.now and not waking.done():
                waking.set_result(None)
        self._sleepers = [(moment, waking) for moment, waking in self._sleepers if not waking.done()]


async def settle() -> None:
    """Run everything that is not waiting for time."""
    for _ in range(_SETTLING_TURNS):
        await asyncio.sleep(0)


@dataclass(slots=True)
class Switch:
    """Makes a fake answer or not, and counts what was asked of it by the name of the method."""

    is_up: bool = True
    calls: list[str] = field(default_factory=list)

    async def passed(self, call: str) -> None:
        """Count a call, and fail it while the switch is off."""
        await asyncio.sleep(0)
        self.calls.append(call)
        if not self.is_up:
            raise Unavailable(f"switched off ({call})")

    def count(self, call: str) -> int:
        """Return how often a method was called."""
        return self.calls.count(call)


class RandomOrder(Switch):
    """Lets calls overtake each other."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    async def passed(self, call: str) -> None:
        for _ in range(self._random.randrange(6)):
            await asyncio.sleep(0)
        await super().passed(call)


@dataclass(frozen=True, slots=True)
class _Object:
    body: bytes
    content_type: str
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body).hexdigest()}"'


class FakeBucket:
    """A `pipeline.clients.storage.Bucket` in memory; `objects` is what it holds."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time
        self.objects: dict[str, _Object] = {}
        self.switch = Switch()

    async def get(self, key: str) -> bytes | None:
        stored = await self.read(key)
        return stored.body if stored else None

    async def read(
        self,
        key: str,
        *,
        range_: str | None = None,
        if_match: str | None = None,
    ) -> StoredObject | None:
        await self.switch.passed("read")
        found = self.objects.get(key)
        if found is None:
            return None
        if if_match is not None and if_match != found.etag:
            raise PreconditionFailed
        first, last = _span(range_, len(found.body)) if range_ else (0, len(found.body) - 1)
        return StoredObject(
            body=found.body[first : last + 1],
            etag=found.etag,
            last_modified=found.last_modified,
            content_type=found.content_type,
            size=len(found.body),
            content_range=f"bytes {first}-{last}/{len(found.body)}" if range_ else None,
            metadata=found.metadata,
        )

    async def head(self, key: str) -> ObjectInfo | None:
        await self.switch.passed("head")
        return self._info(key) if key in self.objects else None

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        await self.switch.passed("put")
        self._write(key, body, content_type)

    async def put_once(
        self, key: str, body: bytes, content_type: str, *, metadata: Mapping[str, str] | None = None
    ) -> str | None:
        await self.switch.passed("put_once")
        assert (
            sum(len(f"{name}{value}".encode("ascii")) for name, value in (metadata or {}).items()) <= METADATA_MAX
        )
        return None if key in self.objects else self._write(key, body, content_type, metadata or {})

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        await self.switch.passed("replace")
        found = self.objects.get(key)
        return self._write(key, body, content_type) if found and found.etag == etag else None

    async def delete(self, keys: Iterable[str]) -> None:
        await self.switch.passed("delete")
        for key in keys:
            self.objects.pop(key, None)

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        await self.switch.passed("list")
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > start_after:
                yield self._info(key)

    async def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        await self.switch.passed("list_folders")
        seen = set[str]()
        for key in sorted(self.objects):
            name, slash, _ = key.removeprefix(prefix).partition("/")
            if key.startswith(prefix) and key > start_after and slash and name not in seen:
                seen.add(name)
                yield name

    async def presign_post(self, key: str, *, content_type: str, max_bytes: int, lifetime: timedelta) -> UploadForm:
        await self.switch.passed("presign_post")
        expires = self._time() + lifetime
        fields = {"key": key, "Content-Type": content_type, "max_bytes": str(max_bytes)}
        return UploadForm("http://fake/", fields | {"expires": expires.isoformat()})

    async def presign_get(self, key: str, *, lifetime: timedelta, content_type: str, disposition: str) -> str:
        await self.switch.passed("presign_get")
        said = {"expires": (self._time() + lifetime).isoformat(), "type": content_type, "as": disposition}
        return f"http://fake/{key}?{urlencode(said)}"

    async def ping(self) -> None:
        await self.switch.passed("ping")

    def _write(self, key: str, body: bytes, content_type: str, metadata: Mapping[str, str] | None = None) -> str:
        self.objects[key] = _Object(body, content_type, self._time().replace(microsecond=0), metadata or {})
        return self.objects[key].etag

    def _info(self, key: str) -> ObjectInfo:
        found = self.objects[key]
        return ObjectInfo(key, len(found.body), found.last_modified, found.etag)


def _span(range_: str, size: int) -> tuple[int, int]:
    """Read `bytes=a-b`, `bytes=a-` or `bytes=-n` (RFC 9110, section 14.1.2) into first and last byte."""
    first, _, last = range_.removeprefix("bytes=").partition("-")
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if start > end:
        raise RangeNotSatisfiable
    return start, end


@dataclass(slots=True)
class _Queued:
    id: str
    body: str
    visible_at: datetime
    receipt: str = ""
    receive_count: int = 0


class FakeQueue:
    """A `pipeline.clients.queues.Queue` in memory, with visibility timeout and dead letters by the test's clock."""

    def __init__(
        self,
        time: FakeTime,
        *,
        visibility_seconds: int = 60,
        max_receives: int | None = None,
        dead_letters: "FakeQueue | None" = None,
    ) -> None:
        self._time = time
        self._visibility = timedelta(seconds=visibility_seconds)
        self._max_receives = max_receives
        self._dead_letters = dead_letters
        self._messages: list[_Queued] = []
        self._numbers = iter(range(10**9))
        self._arrival = asyncio.Event()
        self.groups: list[str | None] = []  # of every message ever sent
        self.failing: set[str] = set()  # bodies of the messages that the queue fails to delete and to hide
        self.switch = Switch()

    @property
    def bodies(self) -> list[str]:
        """What is in the queue, hidden or not."""
        return [message.body for message in self._messages]

    @property
    def visible(self) -> list[str]:
        """What anybody may receive now."""
        return [message.body for message in self._messages if message.visible_at <= self._time()]

    async def send(self, body: str, *, group: str | None = None) -> None:
        await self.switch.passed("send")
        self.groups.append(group)
        self._messages.append(_Queued(f"m{next(self._numbers)}", body, self._time()))
        self._arrival.set()

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        await self.switch.passed("receive")
        end = self._time() + timedelta(seconds=wait_seconds)
        while not (taken := self._take(min(limit, BATCH))) and self._time() < end:
            await self._something_to_see(end)
        return taken

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        for _ in range(0, len(receipts), BATCH):
            await self.switch.passed("delete")
        named = [message for message in self._messages if message.receipt in receipts]
        for message in named:
            if message.body not in self.failing:
                self._messages.remove(message)
        return self._failed(named)

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        for _ in range(0, len(receipts), BATCH):
            await self.switch.passed("hide")
        named = [message for message in self._messages if message.receipt in receipts]
        for message in named:
            if message.body not in self.failing:
                message.visible_at = self._time() + timedelta(seconds=seconds)
        self._arrival.set()
        return self._failed(named)

    def _failed(self, messages: Iterable[_Queued]) -> list[str]:
        return [message.receipt for message in messages if message.body in self.failing]

    async def counts(self) -> QueueCounts:
        await self.switch.passed("counts")
        return QueueCounts(visible=len(self.visible), hidden=len(self._messages) - len(self.visible))

    async def depth(self) -> int:
        await self.switch.passed("depth")
        return len(self.visible)

    async def ping(self) -> None:
        await self.switch.passed("ping")

    def _take(self, limit: int) -> list[Message]:
        self._bury()
        ready = [message for message in self._messages if message.visible_at <= self._time()][:limit]
        for message in ready:
            message.visible_at = self._time() + self._visibility
            message.receive_count += 1
            message.receipt = f"{message.id}-{next(self._numbers)}"
        return [Message(one.id, one.body, one.receipt, one.receive_count) for one in ready]

    def _bury(self) -> None:
        """Move what has been received too often to the dead letters, as SQS does at the next receive."""
        if self._max_receives is None or self._dead_letters is None:
            return
        for message in tuple(self._messages):
            if message.visible_at <= self._time() and message.receive_count >= self._max_receives:
                self._messages.remove(message)
                self._dead_letters.put(message)

    def put(self, message: _Queued) -> None:
        """Add a message from another queue."""
        message.visible_at = self._time()
        self._messages.append(message)
        self._arrival.set()

    async def _something_to_see(self, end: datetime) -> None:
        """Wait for a message to arrive or to become visible, or for the end."""
        next_look = min([end, *(message.visible_at for message in self._messages)])
        self._arrival.clear()
        waits = [
            asyncio.ensure_future(self._arrival.wait()),
            asyncio.ensure_future(self._time.sleep((next_look - self._time()).total_seconds())),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await wait


class NoConnections:
    """A `pipeline.clients.connections.Connections` that nobody is connected to."""

    async def post(self, to: ReplyTo, body: bytes) -> None:
        raise ConnectionGone(f"{to.connection_id} is gone")

    async def close(self, to: ReplyTo) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Fakes:
    """The fakes behind a `Resources`, by their own types."""

    time: FakeTime
    bucket: FakeBucket
    voices: FakeBucket
    synthesis: FakeQueue
    synthesis_dead_letters: FakeQueue
    resources: Resources


def make_fakes(settings: Settings, time: FakeTime | None = None) -> Fakes:
    """Wire fakes as `pipeline.clients.resources.connect` wires the real ones."""
    time = time or FakeTime()
    bucket, voices = FakeBucket(time), FakeBucket(time)
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
        synthesis=synthesis,
        synthesis_dead_letters=dead_letters,
        events=FakeQueue(time),
        webhooks=FakeQueue(time),
        connections=NoConnections(),
        usage=UsageWindows(bucket, time),
        decoding=asyncio.Semaphore(settings.decodes_at_once),
    )
    return Fakes(time, bucket, voices, synthesis, dead_letters, resources)
