"""ASGI types, and the body of a request."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]

WHOLE_BODY = "whole_body"  # the key in the scope for the body of a request that was received with its head


class ClientDisconnected(Exception):
    """The client disconnected before its request was complete."""


class BodyTooLarge(Exception):
    """The body is larger than allowed."""


class BodyTooSlow(Exception):
    """The client has sent nothing for a while."""


class TooManyBytes(Exception):
    """The bodies of unverified requests together are larger than allowed."""


class Budget:
    """The number of bytes that the bodies of all unverified requests may have together."""

    def __init__(self, size: int) -> None:
        self.left = size


class RequestBody:
    """Reads the body of a request in parts.

    Parameters
    ----------
    scope
        The request.
    receive
        Returns its messages.
    timeout_seconds
        How long the client may send nothing.
    """

    def __init__(self, scope: Message, receive: Receive, timeout_seconds: float) -> None:
        self._whole: bytes | None = scope.get(WHOLE_BODY)
        self._receive = receive
        self._timeout_seconds = timeout_seconds
        self._is_complete = False

    async def next_part(self) -> bytes | None:
        """Return the next part; None at the end.

        Raises
        ------
        BodyTooSlow, ClientDisconnected
            The client sends nothing more.
        """
        if self._is_complete:
            return None
        if self._whole is not None:
            self._is_complete = True
            return self._whole
        try:
            async with asyncio.timeout(self._timeout_seconds):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        self._is_complete = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    async def rest(self, limit: int | None = None, budget: Budget | None = None) -> bytes:
        """Return the rest of the body, at most `limit` bytes.

        Raises
        ------
        BodyTooLarge
            The rest is larger.
        TooManyBytes
            The budget is used up.
        """
        body = bytearray()
        try:
            while (part := await self.next_part()) is not None:
                body += part
                if budget is not None:
                    budget.left -= len(part)
                    if budget.left < 0:
                        raise TooManyBytes
                if limit is not None and len(body) > limit:
                    raise BodyTooLarge
            return bytes(body)
        finally:
            if budget is not None:
                budget.left += len(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """Return a `Receive` that yields this body, and then the messages of `receive`."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
