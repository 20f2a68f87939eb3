"""`POST /@connections/<id>`, by which other processes reach this one's WebSocket clients, as in API Gateway.

Each server process listens on a loopback port of its own, so that a message finds the very process that holds the
connection, however many there are.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from functions.local.connections import ConnectionRegistry
from functions.previews.completion_waiters import Waiters
from functions.websocket.dispatch import MESSAGE_MAX_BYTES

# By this header botocore knows which of its exceptions to raise (AWS REST-JSON protocol).
_GONE = {"x-amzn-ErrorType": "GoneException"}


@asynccontextmanager
async def listen_for_posts(connections: ConnectionRegistry, waiters: Waiters) -> AsyncIterator[None]:
    """Serve the route on a free port of the loopback interface."""

    async def post(request: web.Request) -> web.Response:
        connection_id, text = request.match_info["connection_id"], await request.text()
        delivered = waiters.ring(connection_id, text) or await connections.post(connection_id, text)
        return web.Response(status=200 if delivered else 410, headers=None if delivered else _GONE)

    application = web.Application(client_max_size=MESSAGE_MAX_BYTES)
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


async def _without_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
