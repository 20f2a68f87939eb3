"""Posts the messages of all streams. Those for the same API process are sent together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass

from pipeline.clients.connections import Connections
from pipeline.contract.messages.message_batches import MAX_BYTES, MAX_MESSAGES
from pipeline.contract.records import ReplyTo
from pipeline.errors import ConnectionGone, Unavailable

POST_TIMEOUT_SECONDS = 5.0
# A request costs both processes 2 to 3 ms of CPU time. With few streams, no message waits for a batch.
BATCHES_PER_SECOND, BURST_BATCHES = 25, 10

Sleep = Callable[[float], Awaitable[object]]


class Posts:
    """Posts messages to clients."""

    def __init__(self, connections: Connections, sleep: Sleep = asyncio.sleep) -> None:
        self._connections = connections
        self._sleep = sleep
        self._outboxes: dict[str, _Outbox] = {}

    async def post(self, to: ReplyTo, message: bytes) -> None:
        """Send a message and wait until the client has received it, see `Connections.post`."""
        async with asyncio.timeout(POST_TIMEOUT_SECONDS):
            await self._connections.post(to, message)

    async def post_unless_busy(self, to: ReplyTo, messages: Sequence[bytes]) -> bool:
        """Send messages in order, together with those of other clients. `to.takes_batches` is required.

        Return False, and send nothing, if the client has not received an earlier message yet.

        Raises
        ------
        ConnectionGone, Unavailable
            See `Connections.post`.
        """
        if to.endpoint not in self._outboxes:
            self._outboxes[to.endpoint] = _Outbox(self._connections, to.endpoint, self._sleep)
        return await self._outboxes[to.endpoint].post_unless_busy(to.connection_id, messages)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Messages for one connection. `result` is whether they were sent."""

    connection_id: str
    messages: Sequence[bytes]
    result: "asyncio.Future[bool]"


class _Outbox:
    """The messages for one endpoint. One batch is sent after the other."""

    def __init__(self, connections: Connections, endpoint: str, sleep: Sleep) -> None:
        self._connections = connections
        self._endpoint = endpoint
        self._sleep = sleep
        self._waiting: list[_Waiting] = []
        self._sending: asyncio.Task[None] | None = None
        self._next_at = 0.0

    async def post_unless_busy(self, connection_id: str, messages: Sequence[bytes]) -> bool:
        waiting = _Waiting(connection_id, messages, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._sending is None or self._sending.done():
            # Without the deadline and the log context of this job.
            self._sending = asyncio.create_task(self._send_all(), context=Context())
        return await waiting.result

    async def _send_all(self) -> None:
        while self._waiting:
            await self._pace()
            batch = self._next_batch()
            if not batch:  # the callers were cancelled
                continue
            try:
                await self._post(batch)
            except (Unavailable, TimeoutError):
                for one in batch:
                    _fail(one, Unavailable(f"{self._endpoint} can't be reached."))

    async def _pace(self) -> None:
        """Wait until a batch may be sent: `BURST_BATCHES` at once, then `BATCHES_PER_SECOND`."""
        now, interval = asyncio.get_running_loop().time(), 1 / BATCHES_PER_SECOND
        self._next_at = max(self._next_at, now - (BURST_BATCHES - 1) * interval)
        if self._next_at > now:
            await self._sleep(self._next_at - now)
        self._next_at += interval

    def _next_batch(self) -> Sequence[_Waiting]:
        """Return what fits in a batch, in order. The first one always does."""
        count = size = messages = 0
        for one in self._waiting:
            size += sum(map(len, one.messages))
            messages += len(one.messages)
            if count and (size > MAX_BYTES or messages > MAX_MESSAGES):
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return [one for one in batch if not one.result.done()]

    async def _post(self, batch: Sequence[_Waiting]) -> None:
        messages = [(one.connection_id, message) for one in batch for message in one.messages]
        async with asyncio.timeout(POST_TIMEOUT_SECONDS):
            undelivered = await self._connections.post_batch(self._endpoint, messages)
        for one in batch:
            if one.connection_id in undelivered.gone:
                _fail(one, ConnectionGone(f"Connection {one.connection_id} is gone."))
            elif not one.result.done():
                one.result.set_result(one.connection_id not in undelivered.busy)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.result.done():  # it is done if the caller was cancelled
        waiting.result.set_exception(error)
