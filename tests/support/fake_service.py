"""The service over in-memory fakes of its storage, queues, connections and clock."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache

from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import Recording, encoded
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract import layout, retention
from pipeline.contract.messages.message_batches import AddressedMessage, Undelivered
from pipeline.contract.records import (
    REPORT_METADATA,
    Failed,
    Preview,
    ReplyTo,
    Request,
    Source,
    Subscriber,
    Succeeded,
    SynthesisReport,
    Timings,
    outcome_fields,
)
from pipeline.domain import acceptance, jobs, sessions
from pipeline.errors import ConnectionGone, Unavailable
from pipeline.ids import id_maker
from pipeline.settings import Settings
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import FakeTime
from tests.support.fakes.queue import FakeQueue
from tests.support.fakes.switch import Switch
from tests.support.speech import voice

PROMPT = b'{"model": "mock", "pitch": 120.0}'


class FakeConnections:
    """Connections of clients.  Tests mark them as gone or unreachable."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, str]] = []
        self.batches: list[list[str]] = []
        self.gone: set[str] = set()
        self.busy: set[str] = set()
        self.unreachable: set[str] = set()
        self.closed: list[str] = []

    async def post(self, to: ReplyTo, body: bytes) -> None:
        if to.connection_id in self.gone:
            raise ConnectionGone("gone")
        if to.connection_id in self.unreachable:
            raise Unavailable("unreachable")
        self.posted.append((to.connection_id, body.decode()))

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        self.batches.append([to for to, _ in messages])
        if self.unreachable & {to for to, _ in messages}:
            raise Unavailable("unreachable")
        refused = self.gone | self.busy
        self.posted += [(to, body.decode()) for to, body in messages if to not in refused]
        return Undelivered(frozenset(self.gone), frozenset(self.busy))

    async def close(self, to: ReplyTo) -> None:
        self.closed.append(to.connection_id)


class Crash(BaseException):
    """Simulates the death of the process."""


@dataclass(slots=True)
class FailAfter(Switch):
    """Fails every call after `left` calls of the buckets and queues that share it."""

    left: int = 0
    error: type[BaseException] = Crash
    seen: list[str] = field(default_factory=list)

    async def passed(self, call: str) -> None:
        self.seen.append(call)
        if self.left == 0:
            raise self.error("simulated failure")
        self.left -= 1


@cache
def reference_recording() -> Recording:
    """Return a valid reference recording."""
    return voice(120.0)


class FakeService:
    """`Resources` over fakes, with operations for tests."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.time = FakeTime()
        self.bucket = FakeBucket(self.time)
        self.voices = FakeBucket(self.time)
        self.audit = FakeBucket(self.time)
        self.synthesis = FakeQueue(self.time)
        self.dead = FakeQueue(self.time)
        self.events = FakeQueue(self.time)
        self.webhooks = FakeQueue(self.time)
        self.connections = FakeConnections()
        settings = settings or Settings()
        self.resources = Resources(
            settings=settings,
            clock=self.time,
            new_id=id_maker(self.time),
            bucket=self.bucket,
            voices=self.voices,
            audit=self.audit,
            synthesis=self.synthesis,
            synthesis_dead_letters=self.dead,
            events=self.events,
            webhooks=self.webhooks,
            connections=self.connections,
            usage=UsageWindows(self.bucket, self.time),
            decoding=asyncio.Semaphore(settings.decodes_at_once),
        )

    def fail_after(self, calls: int, error: type[BaseException] = Crash) -> FailAfter:
        """Fail all calls of the storage and the synthesis queue after this many, until `recover`."""
        switch = FailAfter(left=calls, error=error)
        self.bucket.switch = self.voices.switch = self.audit.switch = self.synthesis.switch = switch
        return switch

    def recover(self) -> None:
        """Let every call succeed again."""
        for fake in (self.bucket, self.voices, self.audit, self.synthesis):
            fake.switch = Switch()

    def advance(self, **by: float) -> None:
        """Advance the clock."""
        self.time.now += timedelta(**by)

    async def session(self, transcription: str = "What I say.", *, embedded: bool = True) -> str:
        """Upload a reference."""
        session_id = self.resources.new_id()
        await sessions.store(self.resources, None, session_id, encoded(reference_recording()), transcription)
        if embedded:
            await self.bucket.put(layout.session(session_id).embedding, PROMPT, JSON)
        return session_id

    async def job(self, subscriber: Subscriber | None = None, *, owner: str | None = None) -> Request:
        """Accept a preview of an upload."""
        request = await self.request(subscriber, owner=owner)
        await acceptance.accept(self.resources, request)
        return request

    async def request(self, subscriber: Subscriber | None = None, *, owner: str | None = None) -> Request:
        """Return a request that has not been accepted yet."""
        session_id = await self.session()
        return Request(
            job_id=new_id(self.resources.new_id, owner),
            kind="preview",
            source=Source(session_id=session_id, owner=owner),
            reference_id=session_id,
            text="Hello.",
            created_at=self.time(),
            subscriber=subscriber,
            correlation_id="corr-1",
        )

    async def succeed(self, request: Request, timings: Timings | None = None) -> Succeeded:
        """Write a successful outcome, as a worker does."""
        key = layout.preview(request.job_id)
        timings = timings or Timings(queued_seconds=0, synthesis_seconds=0.5, real_time_factor=0.4)
        report = SynthesisReport(timings=timings, finish_reason="stop")
        metadata = {REPORT_METADATA: report.model_dump_json()}
        await self.bucket.put_once(key, b"RIFF", "audio/wav", metadata=metadata)
        outcome = Succeeded(
            **outcome_fields(request, self.time()),
            preview=Preview(
                key=key,
                sample_rate=24_000,
                duration_seconds=1.25,
                expires_at=retention.preview_expires_at(self.time(), self.resources.settings),
            ),
            timings=timings,
            finish_reason="stop",
            marks=("watermark",),
        )
        await jobs.write_outcome(self.resources, outcome)
        return outcome

    async def fail(self, request: Request) -> Failed:
        """Write a failed outcome."""
        outcome = jobs.failure(request, Unavailable("It was not to be."), self.time())
        await jobs.write_outcome(self.resources, outcome)
        return outcome

    def with_settings(self, settings: Settings) -> Resources:
        """Return the resources with other settings."""
        return replace(self.resources, settings=settings)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys in the ephemeral bucket."""
        return _under(self.bucket.objects, prefix)

    def voice_keys(self, prefix: str = layout.VOICES) -> list[str]:
        """Return the keys in the voices bucket, by default those of voices."""
        return _under(self.voices.objects, prefix)


async def job_of_newer_version(fakes: FakeService, subscriber: Subscriber | None = None) -> str:
    """Enqueue a job as a later version of the API may write it, and return its id."""
    request = await fakes.job(subscriber)
    document = request.model_dump(mode="json") | {
        "kind": "duet",
        "text": ["Hello.", "Hello!"],
        "options": {"language": "Klingon"},
        "new_reference": 2,
    }
    await fakes.bucket.put(layout.request(request.job_id), json.dumps(document).encode(), JSON)
    return request.job_id


def _under(keys: Iterable[str], prefix: str) -> list[str]:
    return sorted(key for key in keys if key.startswith(prefix))
