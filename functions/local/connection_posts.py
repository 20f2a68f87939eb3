"""`POST /@connections/<id>`, by which other processes send messages to this one's clients, as in API Gateway.

Each server process listens on its own loopback port, so that a message reaches the process that holds the
connection.  As in API Gateway, a request has to be signed: with the credentials of the service, which all of its
processes have.
"""

import asyncio
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from botocore.credentials import ReadOnlyCredentials
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from functions.local.connections import ConnectionRegistry, Delivery
from functions.local.http_protocol import HttpProtocol
from functions.previews.completion_waiters import CompletionWaiters
from functions.websocket.client_messages import MESSAGE_MAX_BYTES
from pipeline.access.received_request import ReceivedRequest, SignatureRefused, check_loopback_host
from pipeline.access.request_signatures import SignatureVerifier
from pipeline.contract.messages import message_batches
from pipeline.contract.messages.completions import WAV_MAX_BYTES
from pipeline.contract.messages.message_batches import BATCH, BUSY_HEADER, GONE_HEADER, Undelivered, parse_batch
from pipeline.ids import Clock, utc_now

# botocore selects the exception to raise by this header (AWS REST-JSON protocol).
_ERROR_TYPE = "x-amzn-ErrorType"
# All bodies that are received at the same time; a message is verified when its body is complete.
UNVERIFIED_MAX_BYTES = 64 * 1024 * 1024
BODY_TIMEOUT_SECONDS = 10.0

Credentials = Callable[[], Awaitable[ReadOnlyCredentials]]
CurrentVerifier = Callable[[], Awaitable[SignatureVerifier]]


class PostsProtocol(HttpProtocol):
    """The API's HTTP, with fewer connections: the listener is for the processes of this machine."""

    max_connections = 256


def verifier_for(credentials: Credentials, clock: Clock = utc_now) -> CurrentVerifier:
    """Return a function that returns the verifier of requests signed with the current credentials."""

    async def current() -> SignatureVerifier:
        now = await credentials()
        return SignatureVerifier(
            now.access_key or "", now.secret_key or "", clock, services=frozenset({"execute-api"})
        )

    return current


class PostedMessages:
    """Delivers posted messages to the waiting requests and open WebSockets of this process."""

    def __init__(self, waiters: CompletionWaiters, connections: ConnectionRegistry) -> None:
        self._waiters = waiters
        self._connections = connections

    def max_bytes(self, connection_id: str) -> int:
        """Return the maximum size of a message for a connection."""
        if connection_id == BATCH:
            return 2 * message_batches.MAX_BYTES  # with the lines between the messages
        if self._waiters.is_waiting(connection_id):
            return WAV_MAX_BYTES + MESSAGE_MAX_BYTES
        return MESSAGE_MAX_BYTES

    async def deliver(self, connection_id: str, body: bytes) -> bool:
        """Deliver a message; return whether the connection exists.

        Raises
        ------
        UnicodeDecodeError
            It is for a WebSocket and not UTF-8.
        """
        return self._waiters.deliver(connection_id, body) or await self._connections.post(connection_id, body)

    def deliver_batch(self, batch: bytes) -> Undelivered:
        """Deliver a batch without waiting for its clients, see `message_batches`.

        Raises
        ------
        ValueError
            It has another format, or a message for a WebSocket is not UTF-8.
        """
        bodies = defaultdict[str, list[bytes]](list)
        for connection_id, body in parse_batch(batch):
            bodies[connection_id].append(body)
        deliveries = {to: self._deliver_unless_busy(to, some) for to, some in bodies.items()}
        gone, busy = (
            frozenset(to for to, delivery in deliveries.items() if delivery == state) for state in ("gone", "busy")
        )
        return Undelivered(gone, busy)

    def _deliver_unless_busy(self, connection_id: str, bodies: Sequence[bytes]) -> Delivery:
        if all(self._waiters.deliver(connection_id, body) for body in bodies):
            return "accepted"
        return self._connections.post_unless_busy(connection_id, bodies)


class _Bodies:
    """Reads the bodies of requests, within a limit for all of them."""

    def __init__(self, max_bytes: int) -> None:
        self._bytes_left = max_bytes

    async def read(self, request: Request, max_bytes: int) -> bytes:
        """Return a body of at most `max_bytes`.

        Raises
        ------
        HTTPException
            It is too large, incomplete or too slow, or too many bodies are received at the same time.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
                async for chunk in request.stream():
                    self._bytes_left -= len(chunk)
                    body += chunk
                    if len(body) > max_bytes:
                        raise HTTPException(413, headers={_ERROR_TYPE: "PayloadTooLargeException"})
                    if self._bytes_left < 0:
                        raise HTTPException(503)
        except TimeoutError:
            raise HTTPException(408, headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise HTTPException(400) from None
        finally:
            self._bytes_left += len(body)
        return bytes(body)


def connections_app(posted: PostedMessages, current_verifier: CurrentVerifier) -> Starlette:
    """Return the application.

    Parameters
    ----------
    posted
        Receives the posted messages.
    current_verifier
        Returns the verifier of the requests' signatures.
    """
    bodies = _Bodies(UNVERIFIED_MAX_BYTES)

    async def post(request: Request) -> Response:
        connection_id, received = request.path_params["connection_id"], ReceivedRequest.from_scope(request.scope)
        try:
            check_loopback_host(received)
            verifier = await current_verifier()
            header = verifier.check_header(received)
            body = await bodies.read(request, posted.max_bytes(connection_id))
            verifier.verify(received, body, header)
        except SignatureRefused as error:
            headers = {_ERROR_TYPE: error.code}
            return JSONResponse({"message": error.message}, status_code=error.status, headers=headers)
        try:
            if connection_id == BATCH:
                return _batch_response(posted.deliver_batch(body))
            delivered = await posted.deliver(connection_id, body)
        except ValueError:
            return Response(status_code=400, headers={_ERROR_TYPE: "BadRequestException"})
        return Response() if delivered else Response(status_code=410, headers={_ERROR_TYPE: "GoneException"})

    app = Starlette(routes=[Route("/@connections/{connection_id:path}", post, methods=["POST"])])
    app.router.redirect_slashes = False
    return app


def _batch_response(undelivered: Undelivered) -> Response:
    headers = {GONE_HEADER: ",".join(undelivered.gone), BUSY_HEADER: ",".join(undelivered.busy)}
    return Response(headers=headers)


@asynccontextmanager
async def serving(posted: PostedMessages, current_verifier: CurrentVerifier) -> AsyncIterator[str]:
    """Serve the application on a free port of the loopback interface; yield the endpoint's URL."""
    config = uvicorn.Config(
        connections_app(posted, current_verifier),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        http=PostsProtocol,
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
