"""`POST /@connections/<id>`, by which other processes reach this one's clients, as in API Gateway.

Each server process listens on a loopback port of its own, so that a message finds the very process that holds the
connection, however many there are.  As in API Gateway, a post has to be signed: with the credentials of the service
itself, which each of its processes has.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import uvicorn
from botocore.credentials import ReadOnlyCredentials
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.access.request_signatures import (
    ReceivedRequest,
    SignatureRefused,
    SignatureVerifier,
    check_loopback_host,
)
from pipeline.ids import Clock, utc_now


class Deliveries(Protocol):
    """Takes what was posted."""

    def max_bytes(self, connection_id: str) -> int:
        """Return how much a connection takes at once."""

    async def deliver(self, connection_id: str, body: bytes) -> bool:
        """Take a message; return whether the connection is there."""


Credentials = Callable[[], Awaitable[ReadOnlyCredentials]]
Verify = Callable[[ReceivedRequest, bytes], Awaitable[None]]

# By this header botocore knows which of its exceptions to raise (AWS REST-JSON protocol).
_GONE = {"x-amzn-ErrorType": "GoneException"}
_TOO_LARGE = {"x-amzn-ErrorType": "PayloadTooLargeException"}


def signature_check(credentials: Credentials, clock: Clock = utc_now) -> Verify:
    """Return the check that a request is signed with the credentials that are in use at the time."""

    async def verify(request: ReceivedRequest, body: bytes) -> None:
        check_loopback_host(request)
        current = await credentials()
        verifier = SignatureVerifier(
            current.access_key or "", current.secret_key or "", clock, services=frozenset({"execute-api"})
        )
        verifier.verify(request, body)

    return verify


def connections_app(deliveries: Deliveries, verify: Verify) -> Starlette:
    """Make the application.

    Parameters
    ----------
    deliveries
        Takes what is posted.
    verify
        Takes a request and its body; raises `SignatureRefused` if it is not to be served.
    """

    async def post(request: Request) -> Response:
        connection_id, body = request.path_params["connection_id"], bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > deliveries.max_bytes(connection_id):
                return Response(status_code=413, headers=_TOO_LARGE)
        try:
            await verify(ReceivedRequest.from_scope(request.scope), bytes(body))
        except SignatureRefused as error:
            headers = {"x-amzn-ErrorType": error.code}
            return JSONResponse({"message": error.message}, status_code=error.status, headers=headers)
        delivered = await deliveries.deliver(connection_id, bytes(body))
        return Response() if delivered else Response(status_code=410, headers=_GONE)

    app = Starlette(routes=[Route("/@connections/{connection_id:path}", post, methods=["POST"])])
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def serving(deliveries: Deliveries, verify: Verify) -> AsyncIterator[str]:
    """Serve the application on a free port of the loopback interface; the endpoint's address."""
    config = uvicorn.Config(
        connections_app(deliveries, verify),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
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
