"""`POST /@connections/<id>`, by which other processes reach this one's WebSocket clients, as in API Gateway.

Each server process listens on a loopback port of its own, so that a message finds the very process that holds the
connection, however many there are.  As in API Gateway, a post has to be signed: with the credentials that the
service itself uses, which every process of it has.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler
from botocore.credentials import ReadOnlyCredentials

from functions.local.connections import ConnectionRegistry
from functions.previews.completion_waiters import Waiters
from functions.websocket.dispatch import MESSAGE_MAX_BYTES
from pipeline.access.request_signatures import (
    ReceivedRequest,
    SignatureRefused,
    SignatureVerifier,
    check_loopback_host,
)
from pipeline.ids import Clock

# By this header botocore knows which of its exceptions to raise (AWS REST-JSON protocol).
_GONE = {"x-amzn-ErrorType": "GoneException"}


_SERVICES = frozenset({"execute-api"})

GetCredentials = Callable[[], Awaitable[ReadOnlyCredentials]]


@asynccontextmanager
async def listen_for_posts(
    connections: ConnectionRegistry, waiters: Waiters, credentials: GetCredentials, clock: Clock
) -> AsyncIterator[None]:
    """Serve the route on a free port of the loopback interface.

    Parameters
    ----------
    connections, waiters
        Who may be posted to.
    credentials
        Returns the credentials that posts have to be signed with now.
    clock
        The current time.
    """

    async def post(request: web.Request) -> web.Response:
        connection_id, text = request.match_info["connection_id"], await request.text()
        delivered = waiters.ring(connection_id, text) or await connections.post(connection_id, text)
        return web.Response(status=200 if delivered else 410, headers=None if delivered else _GONE)

    @web.middleware
    async def refuse_unsigned(request: web.Request, handler: Handler) -> web.StreamResponse:
        current = await credentials()
        verifier = SignatureVerifier(current.access_key or "", current.secret_key or "", clock, _SERVICES)
        received = _received(request)
        try:
            check_loopback_host(received)
            verifier.verify(received, await request.read())
        except SignatureRefused as error:
            return web.json_response(
                {"message": error.message}, status=403, headers={"x-amzn-ErrorType": error.code}
            )
        return await handler(request)

    application = web.Application(client_max_size=MESSAGE_MAX_BYTES, middlewares=[refuse_unsigned])
    application.router.add_post("/@connections/{connection_id}", post)
    application.on_response_prepare.append(_without_server_header)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        connections.endpoint = waiters.endpoint = f"http://127.0.0.1:{port}"
        yield
    finally:
        await runner.cleanup()


def _received(request: web.Request) -> ReceivedRequest:
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    return ReceivedRequest(request.method, request.raw_path, headers)


async def _without_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
