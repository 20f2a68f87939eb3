"""The receivers of messages posted to this process: waiting requests and open WebSockets."""

from functions.local.connections import ConnectionRegistry
from functions.previews.completion_waiters import CompletionWaiters
from functions.websocket.client_messages import MESSAGE_MAX_BYTES
from pipeline.contract.messages.completions import WAV_MAX_BYTES


class LocalDeliveries:
    """See `functions.local.connection_posts.Deliveries`."""

    def __init__(self, waiters: CompletionWaiters, connections: ConnectionRegistry) -> None:
        self._waiters = waiters
        self._connections = connections

    def max_bytes(self, connection_id: str) -> int:
        """Return the maximum size of a message for a connection."""
        if self._waiters.is_waiting(connection_id):
            return WAV_MAX_BYTES + MESSAGE_MAX_BYTES
        return MESSAGE_MAX_BYTES

    async def deliver(self, connection_id: str, body: bytes) -> bool:
        """Deliver a message; return whether the connection exists."""
        if self._waiters.deliver(connection_id, body):
            return True
        return await self._connections.post(connection_id, body.decode())
