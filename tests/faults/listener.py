"""A WebSocket client that connects again whenever its connection breaks, and subscribes to unfinished jobs."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Any

import aiohttp

from tests.faults.ledger import Ledger

HEARTBEAT_SECONDS = 20.0
RETRY_SECONDS = (0.2, 1.0)

Message = Mapping[str, Any]


class Listener:
    """Receives the results of jobs, and creates jobs itself.

    Parameters
    ----------
    session, url
        The HTTP session, and the URL of the WebSocket.
    ledger
        Records the results.
    random
        Chooses the pauses between attempts.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, ledger: Ledger, random: Random) -> None:
        self._session = session
        self._url = url
        self._ledger = ledger
        self._random = random
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._unfinished: set[str] = set()
        self._requests = 0
        self._sent: dict[str, str] = {}
        """Sessions of the previews that were requested on this connection, by request id."""
        self._confirming: dict[str, tuple[str, str]] = {}
        """Their job and session, when a later message was sent to confirm the acceptance."""

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with self._session.ws_connect(
                    self._url, heartbeat=HEARTBEAT_SECONDS, max_msg_size=0
                ) as socket:
                    self._socket = socket
                    for job_id in tuple(self._unfinished):
                        await self._subscribe(job_id)
                    async for message in socket:
                        if message.type is not aiohttp.WSMsgType.TEXT:
                            break  # such as an error, because the heartbeat was not answered
                        await self._handle(json.loads(message.data))
            self._socket = None
            self._sent.clear()
            self._confirming.clear()
            await asyncio.sleep(self._random.uniform(*RETRY_SECONDS))

    async def follow(self, job_id: str) -> None:
        """Subscribe to a job, on each connection until its result is received."""
        self._unfinished.add(job_id)
        with suppress(aiohttp.ClientError, OSError):
            await self._subscribe(job_id)

    async def request_preview(self, session_id: str, text: str) -> None:
        """Request a preview. It counts as accepted when the response to a later message has arrived."""
        self._requests += 1
        request_id = f"preview-{self._requests}"
        self._sent[request_id] = session_id
        with suppress(aiohttp.ClientError, OSError):
            await self._send(
                "generate_preview", session_id=session_id, text=text, progress=True, request_id=request_id
            )

    async def _send(self, type_: str, **data: Any) -> None:
        if self._socket is not None:
            await self._socket.send_json({"type": type_, "data": data})

    async def _subscribe(self, job_id: str) -> None:
        await self._send("subscribe", job_id=job_id, request_id=f"subscribe-{job_id}")

    async def _handle(self, message: Message) -> None:
        data = message["data"]
        request_id = data.get("request_id", "")
        if request_id in self._confirming:
            job_id, session_id = self._confirming.pop(request_id)
            self._ledger.accept(job_id, session_id)
            self._unfinished.add(job_id)
            await self._subscribe(job_id)
        elif message["type"] == "progress" and request_id in self._sent:
            confirmation = f"confirm-{request_id}"
            self._confirming[confirmation] = (data["job_id"], self._sent.pop(request_id))
            await self._send("subscribe", job_id="none", request_id=confirmation)
        elif (ended := self._ledger.observe_message(message)) in self._ledger.jobs:
            self._ledger.jobs[ended].is_notified = True
            self._unfinished.discard(ended)
        elif message["type"] == "error":
            await self._refused(request_id, data["code"])

    async def _refused(self, request_id: str, code: str) -> None:
        self._ledger.refusals[f"WebSocket {code}"] += 1
        if code == "internal_error":
            self._ledger.violations.append(f"internal error on the WebSocket, request {request_id}")
        self._confirming.pop(f"confirm-{request_id}", None)  # it was not accepted
        job_id = request_id.removeprefix("subscribe-")
        if job_id in self._unfinished and code != "not_found":
            await asyncio.sleep(self._random.uniform(*RETRY_SECONDS))
            await self._subscribe(job_id)
