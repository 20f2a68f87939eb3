"""ASGI types, and the body of a request."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]


class ClientDisconnected(Exception):
    """The client disconnected before its request was complete."""


class BodyTooLarge(Exception):
    """The body is larger than allowed."""


class RequestBody:
    """Reads the body of a request in parts."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_complete = False

    async def next_part(self) -> bytes | None:
        """Return the next part; None at the end."""
        if self._is_complete:
            return None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        self._is_complete = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    async def rest(self, limit: int | None = None) -> bytes:
        """Return the rest of the body, at most `limit` bytes.

        Raises
        ------
        BodyTooLarge
            The rest is larger.
        """
        parts, size = [], 0
        while (part := await self.next_part()) is not None:
            size += len(part)
            if limit is not None and size > limit:
                raise BodyTooLarge
            parts.append(part)
        return b"".join(parts)


def replaying(body: bytes, receive: Receive) -> Receive:
    """Return a `Receive` that yields this body, and then the messages of `receive`."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
