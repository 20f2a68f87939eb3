"""The routes of API Gateway's WebSocket API, with the same dispatch as the local `/ws`.

A route's return value is sent to the client only if the API has route responses, so messages are posted instead.
Nothing can be posted during `$connect`: the connection does not exist until that has returned.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from functions.access.access_control import ORIGIN_REFUSED, AccessControl, is_origin_allowed
from functions.aws.process import Event, Handler, Process
from functions.aws.viewer_address import viewer_address
from functions.http.responses.statuses import STATUS
from functions.previews.fair_turns import FairTurns
from functions.websocket import server_messages
from functions.websocket.dispatch import Dispatcher, caller_of, connection_state, stored_state
from functions.websocket.server_messages import Message
from pipeline.access.api_keys import ANONYMOUS, Caller
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import ReplyTo
from pipeline.errors import ConnectionGone, Forbidden, PipelineError, Unauthorized, Unavailable
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

Response = dict[str, int]


class Routes:
    """The handlers of the routes."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._access_control = AccessControl(resources)
        self._dispatcher = Dispatcher(resources, self._access_control, FairTurns(slots=1))

    async def connect(self, event: Event) -> Response:
        """Accept or reject a client; a connection's state is stored only if it is not empty."""
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        try:
            caller = await self._authenticate(headers, event)
            await self._remember(caller, event)
        except Unavailable as error:
            log.warning("could not accept client", reason=error.message)
            return {"statusCode": int(STATUS[error.code])}
        except PipelineError as error:
            log.info("client refused", connection_id=_connection_id(event), reason=error.message)
            return {"statusCode": int(STATUS[error.code])}
        log.info("client connected", connection_id=_connection_id(event), key_id=caller.key_id)
        return {"statusCode": 200}

    async def _remember(self, caller: Caller, event: Event) -> None:
        if caller.key_id is not None:
            key = layout.connection(self._address(event))
            await self._resources.bucket.put(key, connection_state(caller).to_json(), JSON)

    async def _authenticate(self, headers: Mapping[str, str], event: Event) -> Caller:
        settings = self._resources.settings
        source = event["requestContext"].get("identity", {}).get("sourceIp", "")
        address = viewer_address(headers, source, settings)
        ticket = (event.get("queryStringParameters") or {}).get("ticket")
        # A ticket prevents cross-site requests: browsers send none by themselves, and only the holder of a key gets
        # one.  So the origin of the studio, which differs from that of the WebSocket API, need not be allowed.
        has_ticket = settings.wants_keys and ticket is not None
        if not has_ticket and not is_origin_allowed(
            headers.get("origin"), headers.get("host"), settings.allowed_origins
        ):
            raise Forbidden(ORIGIN_REFUSED)
        return await self._access_control.authenticate_socket(headers.get("authorization"), ticket, address)

    async def disconnect(self, event: Event) -> Response:
        """Delete a connection's state; API Gateway does not guarantee that this is called."""
        log.info("client disconnected", connection_id=_connection_id(event))
        await self._dispatcher.forget(self._address(event))
        return {"statusCode": 200}

    async def default(self, event: Event) -> Response:
        """Respond to a message; if the response can't be posted, API Gateway sends its own error message."""
        client = self._address(event)
        try:
            await self._respond(client, _frame(event))
        except ConnectionGone:
            log.info("client gone", connection_id=client.connection_id)
            await self._dispatcher.forget(client)
        except Unavailable as error:
            log.warning("could not respond", connection_id=client.connection_id, reason=error.message)
            return {"statusCode": 500}
        return {"statusCode": 200}

    async def _respond(self, client: ReplyTo, frame: str | bytes) -> None:
        async def send(message: Message) -> None:
            await self._resources.connections.post(client, json.dumps(message).encode())

        caller = await self._stored_caller(client)
        if caller is None or not await self._access_control.is_key_still_valid(caller):
            await send(server_messages.error(Unauthorized("The key is no longer valid.")))
            await self._resources.connections.close(client)
            return
        sender = client.model_copy(update={"key_id": caller.key_id})
        response = await self._dispatcher.handle(sender, caller, frame, send)
        if response is not None:
            await send(response)

    async def _stored_caller(self, client: ReplyTo) -> Caller | None:
        if not self._resources.settings.wants_keys:
            return ANONYMOUS
        state = await stored_state(self._resources, client)
        return caller_of(state) if state else None

    def serving(self, process: Process, route: Callable[[Event], Awaitable[Response]]) -> Handler:
        """Return the handler of one route."""

        async def serve(event: Event) -> Response:
            try:
                return await route(event)
            except Exception:
                log.exception("unexpected error")
                return {"statusCode": 500}

        def handler(event: Event, _context: Any) -> Response:
            return process.run(serve(event), correlation_id=event["requestContext"]["requestId"])

        return handler

    def _address(self, event: Event) -> ReplyTo:
        context, settings = event["requestContext"], self._resources.settings
        return ReplyTo(
            endpoint=_endpoint(context, settings),
            connection_id=_connection_id(event),
            connected_at=_connected_at(context, settings),
        )


def _connection_id(event: Event) -> str:
    return str(event["requestContext"]["connectionId"])


def _connected_at(context: Event, settings: Settings) -> datetime | None:
    """Return the time at which the connection was opened. The AWS emulator gives that of the event instead."""
    if settings.aws_endpoint_url:
        return None
    return datetime.fromtimestamp(context["connectedAt"] / 1000, UTC)


def _endpoint(context: Event, settings: Settings) -> str:
    """Return the endpoint of `@connections`: the API's own, or that of the AWS emulator in the settings."""
    if settings.aws_endpoint_url:
        return f"{settings.aws_endpoint_url.rstrip('/')}/_aws/execute-api/{context['apiId']}/{context['stage']}"
    return f"https://{context['domainName']}/{context['stage']}"


def _frame(event: Event) -> str | bytes:
    body: str = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body
