"""Clients of the HTTP API: they repeat requests with their idempotency key, and leave streams."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import detangle
from starlette.types import ASGIApp, Message

from functions.http.previews.streaming import StreamAborted
from pipeline.audio.wav import read_wav
from pipeline.contract import layout
from tests.simulation.clients import Client, ConnectionLost
from tests.simulation.faults import Process
from tests.simulation.world import KEY

TRIES = 8
LEASE_SECONDS = 45.0  # after which a request whose process has died can be repeated
FORM, JSON = "application/x-www-form-urlencoded", "application/json"


class Broken(AssertionError):
    """A response breaks a guarantee."""


@dataclass
class Answer:
    """A response, as far as it was received. The client leaves when `has_left` is set, or after some chunks."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: int = 0
    is_complete: bool = False
    leaves_after: int | None = None
    has_left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def job_id(self) -> str | None:
        """The job in the headers."""
        return self.headers.get("x-job-id")

    @property
    def is_final(self) -> bool:
        """Whether the same request has no other answer later."""
        return 200 <= self.status < 500 and self.status != 409


class HttpClient:
    """Sends HTTP requests for a client, and records what was promised."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._promises = client.promises
        self._world = client.world

    async def stream(self, session_id: str, answer: Answer) -> None:
        """Request a streamed preview without a key, once, and fill in the answer."""
        form = {"session_id": session_id, "response_text": "Hello."}
        try:
            await self._send("POST", "/preview?stream=1", answer, FORM, urlencode(form))
        finally:
            self._record(answer)

    async def preview_once(self, session_id: str, key: str, **query: str) -> str | None:
        """Request a preview with an idempotency key until it is accepted. Return its job."""
        form = {"session_id": session_id, "response_text": f"Hello {key}."}
        answer = await self._repeat("POST", f"/preview?{urlencode(query)}", FORM, urlencode(form), key)
        return answer.job_id

    async def save_once(self, session_id: str, name: str, key: str) -> str | None:
        """Save a voice with an idempotency key. Return its id if that was acknowledged."""
        body = json.dumps({"session_id": session_id, "name": name})
        answer = await self._repeat("POST", "/voices", JSON, body, key)
        if answer.status != 201:
            return None
        voice_id: str = json.loads(answer.body)["voice_id"]
        self._promises.saved.append((voice_id, session_id))
        repeated = await self._repeat("POST", "/voices", JSON, body, key)
        is_same = (repeated.status, repeated.body) == (201, answer.body)
        is_answered = 200 <= repeated.status < 500 and b"request_in_progress" not in repeated.body
        if is_answered and not is_same:
            raise Broken(f"the repeated request of key {key} was answered by {repeated.status} {repeated.body!r}")
        return voice_id

    async def delete(self, voice_id: str) -> bool:
        """Delete a voice. Return whether that was acknowledged."""
        self._promises.deletion_begun.add(voice_id)
        answer = await self._send("DELETE", f"/voices/{voice_id}", Answer())
        if answer.status == 204:
            self._promises.deleted.add(voice_id)
        return answer.status == 204

    async def read_audit_log(self) -> None:
        """Read the log of the owner."""
        await self._send("GET", "/audit", Answer())

    async def _repeat(self, method: str, path: str, media_type: str, body: str, key: str) -> Answer:
        for _ in range(TRIES):
            answer = Answer()
            self._promises.sent[key] += 1
            try:
                prefer = detangle.choice(("respond-async", "wait=3", "wait=20"))
                await self._send(method, path, answer, media_type, body, {"idempotency-key": key, "prefer": prefer})
            except ConnectionLost:
                await asyncio.sleep(detangle.choice((0.0, LEASE_SECONDS)))
            finally:
                self._record(answer, key)
            if b"request_in_progress" in answer.body and self._promises.sent[key] == 1:
                raise Broken(f"the only request of key {key} was refused, because of another one")
            if answer.is_final:
                break
            await asyncio.sleep(detangle.choice((1.0, LEASE_SECONDS)))
        return answer

    def _record(self, answer: Answer, key: str | None = None) -> None:
        """Record the accepted job. Check the audio, and that a key has one job only."""
        job_id = answer.job_id
        if job_id is None:
            return
        self._promises.jobs.setdefault(job_id, "")
        if key is not None and self._promises.keyed.setdefault(key, job_id) != job_id:
            raise Broken(f"key {key} was answered with the jobs {self._promises.keyed[key]} and {job_id}")
        if answer.status != 200 or not answer.is_complete:
            return
        stored = self._world.first.get(layout.preview(job_id), b"")
        if not stored or answer.body[answer.body.index(b"data") + 8 :] != read_wav(stored)[1]:
            raise Broken(f"the response to job {job_id} is complete and has other audio than is stored")

    async def _send(
        self,
        method: str,
        path: str,
        answer: Answer,
        media_type: str = JSON,
        body: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request, and fill in the answer.

        Raises
        ------
        ConnectionLost
            The API crashed before the end of the response.
        """
        sent = {
            "host": "simulated",
            "authorization": f"Bearer {KEY}",
            "content-type": media_type,
            **(headers or {}),
        }
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("simulated", 80),
        }

        async def serve(process: Process) -> None:
            await _serve(self._world.app, process, scope, body.encode(), answer)

        await self._client.call(serve)
        return answer


async def _serve(app: ASGIApp, process: Process, scope: dict[str, Any], body: bytes, answer: Answer) -> None:
    """Call the application, as a server does for one connection."""
    received = False

    async def receive() -> Message:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": body, "more_body": False}
        await answer.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await process.alive()
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        elif not answer.has_left.is_set():
            answer.body += message.get("body", b"")
            answer.chunks += 1
            answer.is_complete = not message.get("more_body", False)
        if answer.leaves_after is not None and answer.chunks >= answer.leaves_after:
            answer.has_left.set()

    try:
        await app(scope, receive, send)
    except StreamAborted:
        detangle.note("the stream was closed before its end")
