"""In-memory fakes that pass the contract tests of S3 and SQS, with a clock that tests advance."""

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
    """A `pipeline.ids.Clock` with a `sleep`.  Its time changes only by `advance`."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self.now = start
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test has advanced the time this far."""
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + timedelta(seconds=seconds), waking))
        await waking

    async def advance(self, seconds: float) -> None:
        """Advance the time.  Wake each sleeper at its own time and let it run."""
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
    """Let all tasks run that do not wait for time."""
    for _ in range(_SETTLING_TURNS):
        await asyncio.sleep(0)


@dataclass(slots=True)
class Switch:
    """Turns the calls of a fake on and off, and records them by method name."""

    is_up: bool = True
    calls: list[str] = field(default_factory=list)

    async def passed(self, call: str) -> None:
        """Record a call, and raise `Unavailable` while the switch is off."""
        await asyncio.sleep(0)
        self.calls.append(call)
        if not self.is_up:
            raise Unavailable(f"switched off ({call})")

    def count(self, call: str) -> int:
        """Return the number of calls of a method."""
        return self.calls.count(call)


class RandomOrder(Switch):
    """Delays calls at random, which changes their order."""

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
    """An in-memory `pipeline.clients.storage.Bucket`."""

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
        query = {"expires": (self._time() + lifetime).isoformat(), "type": content_type, "as": disposition}
        return f"http://fake/{key}?{urlencode(query)}"

    async def ping(self) -> None:
        await self.switch.passed("ping")

    def _write(self, key: str, body: bytes, content_type: str, metadata: Mapping[str, str] | None = None) -> str:
        self.objects[key] = _Object(body, content_type, self._time().replace(microsecond=0), metadata or {})
        return self.objects[key].etag

    def _info(self, key: str) -> ObjectInfo:
        found = self.objects[key]
        return ObjectInfo(key, len(found.body), found.last_modified, found.etag)


def _span(range_: str, size: int) -> tuple[int, int]:
    """Parse `bytes=a-b`, `bytes=a-` or `bytes=-n` (RFC 9110, section 14.1.2) into the first and last byte."""
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
    """An in-memory `pipeline.clients.queues.Queue` with visibility timeout and dead letters."""

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
        self.groups: list[str | None] = []  # of all messages sent
        self.failing: set[str] = set()  # bodies of messages that cannot be deleted or hidden
        self.switch = Switch()

    @property
    def bodies(self) -> list[str]:
        """The bodies of all messages, hidden or not."""
        return [message.body for message in self._messages]

    @property
    def visible(self) -> list[str]:
        """The bodies of the visible messages."""
        return [message.body for message in self._messages if message.visible_at <= self._time()]

    def clear(self) -> None:
        """Lose all messages, as an emulator that is killed."""
        self._messages.clear()

    async def send(self, body: str, *, group: str | None = None) -> None:
        await self.switch.passed("send")
        self.groups.append(group)
        self._messages.append(_Queued(f"m{next(self._numbers)}", body, self._time()))
        self._arrival.set()

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        await self.switch.passed("receive")
        end = self._time() + timedelta(seconds=wait_seconds)
        while not (taken := self._take(min(limit, BATCH))) and self._time() < end:
            await self._wait_for_visible(end)
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
        self._move_dead_letters()
        ready = [message for message in self._messages if message.visible_at <= self._time()][:limit]
        for message in ready:
            message.visible_at = self._time() + self._visibility
            message.receive_count += 1
            message.receipt = f"{message.id}-{next(self._numbers)}"
        return [Message(one.id, one.body, one.receipt, one.receive_count) for one in ready]

    def _move_dead_letters(self) -> None:
        """Move messages over the receive limit to the dead letters, as SQS does at the next receive."""
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

    async def _wait_for_visible(self, end: datetime) -> None:
        """Wait until a message arrives or becomes visible, or until `end`."""
        next_visible = min([end, *(message.visible_at for message in self._messages)])
        self._arrival.clear()
        waits = [
            asyncio.ensure_future(self._arrival.wait()),
            asyncio.ensure_future(self._time.sleep((next_visible - self._time()).total_seconds())),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await wait


class NoConnections:
    """A `pipeline.clients.connections.Connections` without clients."""

    async def post(self, to: ReplyTo, body: bytes) -> None:
        raise ConnectionGone(f"{to.connection_id} is gone")

    async def close(self, to: ReplyTo) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Fakes:
    """`Resources` over fakes, and the fakes themselves."""

    time: FakeTime
    bucket: FakeBucket
    voices: FakeBucket
    synthesis: FakeQueue
    synthesis_dead_letters: FakeQueue
    resources: Resources


def make_fakes(settings: Settings, time: FakeTime | None = None) -> Fakes:
    """Create resources over fakes, like `pipeline.clients.resources.connect`."""
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
