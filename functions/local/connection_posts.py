"""`POST /@connections/<id>`, by which other processes reach this one's clients, as in API Gateway.

Each server process listens on a loopback port of its own, so that a message finds the very process that holds the
connection, however many there are.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.websocket.dispatch import MESSAGE_MAX_BYTES

Deliver = Callable[[str, str], Awaitable[bool]]

# By this header botocore knows which of its exceptions to raise (AWS REST-JSON protocol).
_GONE = {"x-amzn-ErrorType": "GoneException"}
_TOO_LARGE = {"x-amzn-ErrorType": "PayloadTooLargeException"}


def connections_app(deliver: Deliver) -> Starlette:
    """Make the application; `deliver` takes a connection's id and a message, and says whether it is there."""

    async def post(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MESSAGE_MAX_BYTES:
                return Response(status_code=413, headers=_TOO_LARGE)
        delivered = await deliver(request.path_params["connection_id"], body.decode())
        return Response() if delivered else Response(status_code=410, headers=_GONE)

    return Starlette(routes=[Route("/@connections/{connection_id:path}", post, methods=["POST"])])


@asynccontextmanager
async def serving(deliver: Deliver) -> AsyncIterator[str]:
    """Serve the application on a free port of the loopback interface; the endpoint's address."""
    config = uvicorn.Config(
        connections_app(deliver), lifespan="off", log_config=None, access_log=False, server_header=False, ws="none"
    )
    server = _InnerServer(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class _InnerServer(uvicorn.Server):
    """A server beside the one that the process is run by, to whom the signals are left."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        yield
