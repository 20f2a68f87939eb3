"""The clients of the service, and what the service has promised them."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import detangle

from pipeline.access.api_keys import Caller
from pipeline.contract.records import ReplyTo
from tests.simulation.faults import Process
from tests.simulation.world import World

OWNER = "alice"
CALLER = Caller(OWNER, None, frozenset({"preview", "voices:write"}))
RETRIES = 3


class ConnectionLost(Exception):
    """The API crashed before it answered."""


@dataclass
class Promises:
    """What the service has acknowledged."""

    jobs: dict[str, str] = field(default_factory=dict)
    """Accepted jobs, with the connection of their client."""
    webhooks: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    subscribed: set[tuple[str, str]] = field(default_factory=set)
    """Jobs and connections."""
    saved: list[tuple[str, str]] = field(default_factory=list)
    """Voice ids and their sessions."""
    deleted: set[str] = field(default_factory=set)
    deletion_begun: set[str] = field(default_factory=set)
    keyed: dict[str, str] = field(default_factory=dict)
    """The jobs of idempotency keys."""
    sent: Counter[str] = field(default_factory=Counter)
    """The number of requests with each idempotency key."""
    wanted: set[str] = field(default_factory=set)
    """Jobs that nobody cancelled, and that a client is subscribed to."""
    is_calm: bool = False
    """Whether the schedule has no faults. Then nothing happens twice."""


class Client:
    """A WebSocket client."""

    def __init__(self, world: World, promises: Promises, name: str) -> None:
        self.world = world
        self.promises = promises
        self.name = name
        self.reply_to = ReplyTo(endpoint="simulated", connection_id=name)
        self.inbox = world.inboxes[name] = []
        self._numbers = itertools.count()

    async def request(self, type_: str, **data: Any) -> dict[str, Any] | None:
        """Send a message and return the direct response."""

        async def send(message: dict[str, Any]) -> None:
            self.inbox.append(message)

        raw = json.dumps({"type": type_, "data": data})
        response: dict[str, Any] | None = await self.call(
            lambda _: self.world.dispatcher.handle(self.reply_to, CALLER, raw, send)
        )
        return response

    async def call(self, function: Callable[[Process], Awaitable[Any]]) -> Any:
        """Call the API, and wait for its answer or its crash."""
        while (process := self.world.api) is None or process.has_crashed:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        answer = asyncio.ensure_future(function(process))
        self.world.running.append(answer)  # also after a crash
        await process.until_crash_or(answer)
        if not answer.done():
            raise ConnectionLost
        return answer.result()

    async def preview(self, **data: Any) -> str | None:
        """Request a preview. Return the id of the job if it was accepted."""
        request_id = f"request {next(self._numbers)}"
        about = {"text": "Hello.", "progress": True, "request_id": request_id}
        try:
            response = await self.request("generate_preview", **about, **data)
        finally:  # a crash may follow the message "queued"
            job_id = self._queued(request_id)
            if job_id:
                self.promises.jobs[job_id] = self.name
                if "webhook_url" in data:
                    self.promises.webhooks.add(job_id)
        assert (job_id is None) == (response is not None)
        return job_id

    def _queued(self, request_id: str) -> str | None:
        """Return the job of a request, if the client has received that it is queued."""
        received = (message["data"] for message in self.inbox)
        jobs = (
            data["job_id"]
            for data in received
            if data.get("status") == "queued" and data["request_id"] == request_id
        )
        return next(jobs, None)

    async def subscribe(self, job_id: str) -> None:
        """Subscribe to a job."""
        response = await self.request("subscribe", job_id=job_id)
        if response is None or response["type"] == "tts_complete":
            self.promises.subscribed.add((job_id, self.name))
            self.inbox += [response] if response else []

    async def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        response = await self.request("cancel", job_id=job_id)
        if response and response["type"] == "cancelled":
            self.promises.cancelled.add(job_id)

    async def save(self, session_id: str, name: str) -> str | None:
        """Save a voice, with retries as a person would make. Return its id if that was acknowledged."""
        for _ in range(RETRIES):
            try:
                response = await self.request("save_voice", session_id=session_id, name=name)
            except ConnectionLost:
                continue
            if response and response["type"] == "voice_saved":
                voice_id: str = response["data"]["voice_id"]
                self.promises.saved.append((voice_id, session_id))
                return voice_id
            if response and response["data"].get("code") == "name_taken":
                return None
        return None


async def pause(*seconds: float) -> None:
    """Wait for one of these times."""
    await asyncio.sleep(detangle.choice(seconds))
