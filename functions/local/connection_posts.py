"""`POST /@connections/<id>`, by which other processes send messages to this one's clients, as in API Gateway.

Each server process listens on its own loopback port, so that a message reaches the process that holds the
connection.  As in API Gateway, a request has to be signed: with the credentials of the service, which all of its
processes have.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from botocore.credentials import ReadOnlyCredentials
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from functions.local.connections import ConnectionRegistry
from functions.previews.completion_waiters import CompletionWaiters
from functions.websocket.client_messages import MESSAGE_MAX_BYTES
from pipeline.access.received_request import ReceivedRequest, SignatureRefused, check_loopback_host
from pipeline.access.request_signatures import SignatureVerifier
from pipeline.contract.messages.completions import WAV_MAX_BYTES
from pipeline.ids import Clock, utc_now

Credentials = Callable[[], Awaitable[ReadOnlyCredentials]]
Verify = Callable[[ReceivedRequest, bytes], Awaitable[None]]

# botocore selects the exception to raise by this header (AWS REST-JSON protocol).
_GONE = {"x-amzn-ErrorType": "GoneException"}
_TOO_LARGE = {"x-amzn-ErrorType": "PayloadTooLargeException"}


def signature_check(credentials: Credentials, clock: Clock = utc_now) -> Verify:
    """Return a function that verifies that a request is signed with the current credentials."""

    async def verify(request: ReceivedRequest, body: bytes) -> None:
        check_loopback_host(request)
        current = await credentials()
        verifier = SignatureVerifier(
            current.access_key or "", current.secret_key or "", clock, services=frozenset({"execute-api"})
        )
        verifier.verify(request, body)

    return verify


class PostedMessages:
    """Delivers posted messages to the waiting requests and open WebSockets of this process."""

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


def connections_app(posted: PostedMessages, verify: Verify) -> Starlette:
    """Return the application.

    Parameters
    ----------
    posted
        Receives the posted messages.
    verify
        Verifies a request and its body; raises `SignatureRefused` if the signature is not valid.
    """

    async def post(request: Request) -> Response:
        connection_id, body = request.path_params["connection_id"], bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > posted.max_bytes(connection_id):
                return Response(status_code=413, headers=_TOO_LARGE)
        try:
            await verify(ReceivedRequest.from_scope(request.scope), bytes(body))
        except SignatureRefused as error:
            headers = {"x-amzn-ErrorType": error.code}
            return JSONResponse({"message": error.message}, status_code=error.status, headers=headers)
        delivered = await posted.deliver(connection_id, bytes(body))
        return Response() if delivered else Response(status_code=410, headers=_GONE)

    app = Starlette(routes=[Route("/@connections/{connection_id:path}", post, methods=["POST"])])
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def serving(posted: PostedMessages, verify: Verify) -> AsyncIterator[str]:
    """Serve the application on a free port of the loopback interface; yield the endpoint's URL."""
    config = uvicorn.Config(
        connections_app(posted, verify),
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
    """A second server in the process, which leaves the signals to the main one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
