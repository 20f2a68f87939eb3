"""The processes of the service, and everything that outlives them."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import detangle
from fastapi import FastAPI
from provisioning.recovery import refill_queues
from pump import EventSourceMapping
from starlette.datastructures import State

from functions.access.access_control import AccessControl
from functions.background import dead_letters, notify, sweep, webhooks
from functions.http.application import create_app, serve_with
from functions.previews.completion_waiters import CompletionWaiters
from functions.previews.fair_turns import FairTurns
from functions.websocket.dispatch import Dispatcher
from gpu_runner.analysis.analyses import Analyses
from gpu_runner.dependency_health import Dependencies
from gpu_runner.queue.consumer import Consumer
from gpu_runner.queue.protection import NoProtection
from gpu_runner.streaming.posts import Posts
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.disclaimers import Disclaimers
from gpu_runner.synthesis.prompt_store import PromptStore
from gpu_runner.synthesis.revocations import Revocations
from gpu_runner.synthesis.watch import Watches
from pipeline.access.key_format import key_text, random_id, random_secret
from pipeline.access.owners import new_id
from pipeline.clients.resources import Resources
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract import layout
from pipeline.errors import Unavailable
from pipeline.ids import lowest_id
from pipeline.provenance.manifests import Manifests
from pipeline.settings import Settings
from tests.simulation.faults import Faults, Process, SimulatedTime
from tests.simulation.services import (
    SAMPLE_RATE,
    SimulatedBucket,
    SimulatedConnections,
    SimulatedEngine,
    SimulatedQueue,
    SimulatedReceiver,
    StoredQueue,
)
from tests.support.fakes.clock import EPOCH

SETTINGS = Settings(
    bucket="simulated",
    auth="keys",
    mark="off",
    quality="off",
    job_deadline_minutes=6,
    preview_retention_minutes=2,
    visibility_timeout_seconds=20,
    receive_wait_seconds=20,
    max_receives=2,
    worker_batch_size=2,
)
KEY = key_text(random_id(bytes), random_secret(bytes))
SWEEP_SECONDS = 60
EVENT_RECEIVES = 10  # more than the faults of a schedule


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a stored object."""

    at: datetime
    bucket: str
    key: str
    body: bytes | None
    """None: it was deleted."""


@cache
def _application() -> FastAPI:
    app = create_app(SETTINGS)
    app.middleware_stack = app.build_middleware_stack()
    return app


class _Revocations(Revocations):
    """Polls only after revocations have changed. Other polls have no effect."""

    def __init__(self, world: "World", resources: Resources) -> None:
        super().__init__(resources)
        self._world = world
        self._seen = 0

    async def poll(self) -> None:
        changes = await self._world.until_revoked(self._seen)
        await asyncio.sleep(detangle.choice((0.0, 1.0, 2.0)))
        await super().poll()
        self._seen = changes


@dataclass
class World:
    """Everything that outlives a process."""

    faults: Faults = field(default_factory=Faults)
    objects: dict[str, dict[str, Any]] = field(default_factory=lambda: {"bucket": {}, "voices": {}, "audit": {}})
    versions: dict[str, Any] = field(default_factory=lambda: {"bucket": {}, "voices": {}, "audit": {}})
    history: list[Event] = field(default_factory=list)
    first: dict[str, bytes] = field(default_factory=dict)
    """The first content of each key."""
    first_numbers: dict[str, int] = field(default_factory=dict)
    """The order of the first writes."""
    inboxes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    webhooks: list[str] = field(default_factory=list)
    receiver_up_at: datetime = EPOCH
    time: SimulatedTime = field(default_factory=SimulatedTime)
    supervisors: list[asyncio.Future[None]] = field(default_factory=list)
    running: list[asyncio.Future[None]] = field(default_factory=list)
    ids: int = 0
    """The number of ids made."""

    def __post_init__(self) -> None:
        self.syntheses = 0
        self._revocations = 0
        self._revoked = asyncio.Event()
        visibility = SETTINGS.visibility_timeout_seconds
        names = ("synthesis-dead-letters", "webhooks", "events-dead-letters")
        queues = [StoredQueue(name, visibility_seconds=visibility) for name in names]
        self.dead_letters, self.webhook_queue, self.failed_events = queues
        # Events of a client whose process of the API has crashed become dead letters.
        self.events = StoredQueue(
            "events", visibility_seconds=visibility, max_receives=EVENT_RECEIVES, dead_letters=self.failed_events
        )
        self.synthesis = StoredQueue(
            "synthesis",
            visibility_seconds=visibility,
            max_receives=SETTINGS.max_receives,
            dead_letters=self.dead_letters,
        )
        self.queues = (self.synthesis, self.dead_letters, self.events, self.webhook_queue)
        self.api: Process | None = None
        self.waiters: dict[str, tuple[Process, CompletionWaiters]] = {}
        """The waiting HTTP requests of each process of the API, by its endpoint."""

    def copy(self) -> "World":
        """Return a world with the same stored objects."""
        return World(
            objects={bucket: dict(objects) for bucket, objects in self.objects.items()},
            versions={
                bucket: {key: dict(versions) for key, versions in keys.items()}
                for bucket, keys in self.versions.items()
            },
            history=list(self.history),
            first=dict(self.first),
            first_numbers=dict(self.first_numbers),
            ids=self.ids,
        )

    def changed(self, bucket: str, key: str, body: bytes | None) -> None:
        """Record a change, and send the event of a new outcome."""
        self.history.append(Event(self.time(), bucket, key, body))
        detangle.note(f"{'deleted' if body is None else 'stored'}: {bucket} {key}")
        if body is not None and key not in self.first:
            self.first[key] = body
            self.first_numbers[key] = len(self.first_numbers)
        if key.startswith(layout.REVOCATIONS):
            self._revocations += 1
            self._revoked.set()
        if bucket == "bucket" and body is not None and layout.job_id_of_outcome(key):
            created = {"s3": {"bucket": {"name": bucket}, "object": {"key": key}}, "eventName": "ObjectCreated:Put"}
            task = asyncio.ensure_future(self.events.send(json.dumps({"Records": [created]})))
            task.add_done_callback(lambda _: None)

    def process(self, name: str) -> Process:
        """Return a new process."""
        return Process(self.faults, name)

    def new_id(self) -> str:
        """Return an id with the current time. Unlike those of `id_maker`, it is the same in a replay."""
        self.ids += 1
        return f"{lowest_id(self.time())[:12]}7{self.ids:03x}8{0:015x}"  # the end becomes that of the owner

    def new_session(self, owner: str) -> str:
        """Return the id of a new upload, which the caller stores."""
        return new_id(self.new_id, owner)

    def resources(self, process: Process) -> Resources:
        """Return the resources of a process."""
        bucket, voices, audit = (SimulatedBucket(self, process, name) for name in self.objects)
        synthesis, failed, events, outgoing = (SimulatedQueue(self, process, queue) for queue in self.queues)
        return Resources(
            settings=SETTINGS,
            clock=process.time,
            new_id=self.new_id,
            bucket=bucket,
            voices=voices,
            audit=audit,
            synthesis=synthesis,
            synthesis_dead_letters=failed,
            events=events,
            webhooks=outgoing,
            connections=SimulatedConnections(self, process),
            usage=UsageWindows(bucket, process.time),
            decoding=asyncio.Semaphore(1),
        )

    async def run_api(self, process: Process) -> None:
        """Serve clients, which call `dispatcher` and `app`."""
        resources = self.resources(process)
        self.app = copy.copy(_application())  # another state, and the same routes
        self.app.state = State()
        waiters = serve_with(self.app, resources)
        waiters.endpoint = f"api {len(self.waiters)}"
        self.waiters[waiters.endpoint] = process, waiters
        self.api = process
        self.dispatcher = Dispatcher(resources, AccessControl(resources), FairTurns(2))
        await process.until_crash_or()

    async def run_worker(self, process: Process) -> None:
        """Consume the queue of jobs."""
        resources, engine = self.resources(process), SimulatedEngine(self)
        revoked = _Revocations(self, resources)
        context = WorkerContext(
            resources=resources,
            engine=engine,  # type: ignore[arg-type]
            prompts=PromptStore(resources, engine, revoked),  # type: ignore[arg-type]
            revocations=revoked,
            watches=Watches(resources.bucket),
            manifests=Manifests(resources),
            analyses=Analyses(resources, None, revoked.covers),
            synthesize=engine.synthesize,
            posts=Posts(resources.connections),
            disclaimers=Disclaimers(resources, engine.synthesize, SAMPLE_RATE),
            marks=(),
            sample_rate=SAMPLE_RATE,
            model="simulated",
            reproducible_as=lambda: None,
            sleep=asyncio.sleep,
        )
        await Consumer(context, Dependencies(process.time), NoProtection()).run()

    async def until_revoked(self, seen: int) -> int:
        """Wait until revocations have changed more often than this. Return how often."""
        while self._revocations == seen:
            self._revoked.clear()
            await self._revoked.wait()
        return self._revocations

    async def run_functions(self, process: Process) -> None:
        """Call the functions of the queues with their messages."""
        resources, client = self.resources(process), SimulatedReceiver(self, process)
        lookups = notify.Lookups.of(resources)
        mapped = [
            EventSourceMapping(resources, resources.events, lambda r, event: notify.handle(r, event, lookups)),
            EventSourceMapping(resources, resources.synthesis_dead_letters, dead_letters.handle),
            EventSourceMapping(
                resources,
                resources.webhooks,
                lambda r, event: webhooks.handle(r, event, client, jitter=lambda: 0.5),
                delays_retries=False,
            ),
        ]
        await asyncio.gather(*(mapping.run() for mapping in mapped))

    async def run_sweeper(self, process: Process) -> None:
        """Sweep once a minute."""
        resources = self.resources(process)
        await asyncio.sleep(detangle.choice((1, 3, SWEEP_SECONDS)))
        while True:
            try:
                await sweep.handle(resources, {})
            except Unavailable as error:
                detangle.note(f"sweep: {error.message}")
            await asyncio.sleep(SWEEP_SECONDS)

    async def lose_messages(self) -> None:
        """Empty all queues, as a crash of the embedded storage does, and refill them as the supervisor does."""
        detangle.note("the queues lose their messages")
        for queue in self.queues:
            queue.clear()
        supervisor = Process(Faults(), "supervisor")  # without faults: it would repeat this until it succeeds
        await refill_queues(self.resources(supervisor), down_since=supervisor.time())

    async def supervise(self, name: str, run: Callable[[Process], Awaitable[None]]) -> None:
        """Run a process, and start it again a second after each crash."""
        while True:
            process = self.process(name)
            running = asyncio.ensure_future(run(process))
            self.running.append(running)  # also after a crash: its suspended tasks must not be collected
            await process.until_crash_or(running)
            if running.done() and not process.has_crashed:
                running.result()
            await asyncio.sleep(1)

    def start(self) -> None:
        """Start all processes."""
        runs = {"api": self.run_api, "functions": self.run_functions, "sweeper": self.run_sweeper}
        runs |= {"worker 1": self.run_worker, "worker 2": self.run_worker}
        self.supervisors = [asyncio.ensure_future(self.supervise(name, run)) for name, run in runs.items()]
