"""The routes of API Gateway's WebSocket API over the same dispatch as the local `/ws`.

A route's own answer reaches the client only where the API has route responses, so what there is to say is posted.
Nothing can be posted from within `$connect`: until it has been answered, the connection is not there.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from functions.aws.process import Event, Handler, Process
from functions.websocket import Dispatcher, Message
from pipeline.errors import ConnectionGone, Unavailable
from pipeline.records import ReplyTo
from pipeline.resources import Resources
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

Answer = dict[str, int]
Admits = Callable[[Mapping[str, str], Mapping[str, str]], Awaitable[bool]]


async def anyone(_headers: Mapping[str, str], _query: Mapping[str, str]) -> bool:
    """Admit whoever comes."""
    return True


class Routes:
    """What is done with an event of each route; `admits` judges a handshake by its headers and query."""

    def __init__(self, resources: Resources, admits: Admits) -> None:
        self._resources = resources
        self._admits = admits
        self._dispatcher = Dispatcher(resources)

    async def connect(self, event: Event) -> Answer:
        """Let a client in or not; a connection is remembered only when there is something to remember."""
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        admitted = await self._admits(headers, event.get("queryStringParameters") or {})
        log.info("client connected" if admitted else "client refused", connection_id=_connection_id(event))
        return {"statusCode": 200 if admitted else 401}

    async def disconnect(self, event: Event) -> Answer:
        """Forget a client; API Gateway does not promise to call this."""
        log.info("client disconnected", connection_id=_connection_id(event))
        await self._dispatcher.forget(self._address(event))
        return {"statusCode": 200}

    async def default(self, event: Event) -> Answer:
        """Answer a message; where the answer can't be posted, API Gateway says so in its own words."""
        client = self._address(event)

        async def say(message: Message) -> None:
            await self._resources.connections.post(client, json.dumps(message).encode())

        try:
            answer = await self._dispatcher.answer(client, _frame(event), say)
            if answer is not None:
                await say(answer)
        except ConnectionGone:
            log.info("client gone", connection_id=client.connection_id)
            await self._dispatcher.forget(client)
        except Unavailable as error:
            log.warning("could not answer", connection_id=client.connection_id, reason=error.message)
            return {"statusCode": 500}
        return {"statusCode": 200}

    def serving(self, process: Process, route: Callable[[Event], Awaitable[Answer]]) -> Handler:
        """Make the handler of one route."""

        async def serve(event: Event) -> Answer:
            try:
                return await route(event)
            except Exception:
                log.exception("unexpected error")
                return {"statusCode": 500}

        def handler(event: Event, _context: Any) -> Answer:
            return process.run(serve(event), correlation_id=event["requestContext"]["requestId"])

        return handler

    def _address(self, event: Event) -> ReplyTo:
        endpoint = _endpoint(event["requestContext"], self._resources.settings)
        return ReplyTo(endpoint=endpoint, connection_id=_connection_id(event))


def _connection_id(event: Event) -> str:
    return str(event["requestContext"]["connectionId"])


def _endpoint(context: Event, settings: Settings) -> str:
    """Tell where `@connections` is: below the API's own address, or below that of what stands in for all of AWS."""
    if settings.aws_endpoint_url:
        return f"{settings.aws_endpoint_url.rstrip('/')}/_aws/execute-api/{context['apiId']}/{context['stage']}"
    return f"https://{context['domainName']}/{context['stage']}"


def _frame(event: Event) -> str | bytes:
    body: str = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body
