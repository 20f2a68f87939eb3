"""The deadline of a request, before a gateway in front of this service would time out."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.clients import deadlines

# In `scope["state"]`: when the request's first byte was received, on the event loop's clock.
FIRST_BYTE_AT = "first_byte_at"
# The minimum time for a request after it was received completely.
LEAST_SECONDS = 10.0


class RequestDeadline:
    """Set the deadline for all calls that are made for a request.

    Parameters
    ----------
    seconds
        The time limit for the response, from the request's first byte.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application within the deadline."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        now = asyncio.get_running_loop().time
        first_byte_at: float = scope.get("state", {}).get(FIRST_BYTE_AT) or now()

        async def receive_and_extend() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                deadline.at = max(deadline.at, now() + LEAST_SECONDS)
            return message

        with deadlines.within(first_byte_at + self._seconds - now()) as deadline:
            await self._app(scope, receive_and_extend, send)
