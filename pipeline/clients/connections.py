"""Posting to WebSocket clients through API Gateway's `@connections`, in the cloud and in the local server alike."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.clients import deadlines
from pipeline.contract.messages.message_batches import (
    BATCH,
    BUSY_HEADER,
    GONE_HEADER,
    AddressedMessage,
    Undelivered,
    to_batch,
)
from pipeline.contract.records import ReplyTo
from pipeline.errors import ConnectionGone, Unavailable

if TYPE_CHECKING:
    from types_aiobotocore_apigatewaymanagementapi import ApiGatewayManagementApiClient


class Connections(Protocol):
    """Interface for sending messages to connected clients."""

    async def post(self, to: ReplyTo, body: bytes) -> None:
        """Send one message to one client.

        Raises
        ------
        ConnectionGone
            The client has disconnected. It will not reconnect under this id.
        Unavailable
            A retry may succeed later.
        """

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        """Send messages to clients of an endpoint with `ReplyTo.takes_batches`, see `message_batches`.

        Raises
        ------
        Unavailable
            A retry may succeed later.
        """

    async def close(self, to: ReplyTo) -> None:
        """Close the connection of one client, if it has not disconnected.

        Raises
        ------
        Unavailable
            The client may still be connected.
        """


class ApiGatewayConnections:
    """`PostToConnection` at the endpoint of each connection, with one client per endpoint."""

    def __init__(self, session: aioboto3.Session, config: AioConfig, stack: AsyncExitStack) -> None:
        self._session = session
        self._config = config
        self._stack = stack
        self._opening = asyncio.Lock()
        self._clients: dict[str, ApiGatewayManagementApiClient] = {}

    async def post(self, to: ReplyTo, body: bytes) -> None:
        """See `Connections.post`."""
        client = await self._client_of(to.endpoint)
        async with _translated(client, to.connection_id):
            await client.post_to_connection(ConnectionId=to.connection_id, Data=body)

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        """See `Connections.post_batch`."""
        client = await self._client_of(endpoint)
        async with _translated(client, endpoint):
            response = await client.post_to_connection(ConnectionId=BATCH, Data=to_batch(messages))
        headers = response["ResponseMetadata"]["HTTPHeaders"]
        gone, busy = (frozenset(headers.get(name, "").split(",")) for name in (GONE_HEADER, BUSY_HEADER))
        return Undelivered(gone, busy)

    async def close(self, to: ReplyTo) -> None:
        """See `Connections.close`."""
        client = await self._client_of(to.endpoint)
        with suppress(ConnectionGone):
            async with _translated(client, to.connection_id):
                await client.delete_connection(ConnectionId=to.connection_id)

    async def _client_of(self, endpoint: str) -> "ApiGatewayManagementApiClient":
        async with self._opening:
            if endpoint not in self._clients:
                self._clients[endpoint] = await self._stack.enter_async_context(
                    self._session.client("apigatewaymanagementapi", endpoint_url=endpoint, config=self._config)
                )
        return self._clients[endpoint]


@asynccontextmanager
async def _translated(client: "ApiGatewayManagementApiClient", to: str) -> AsyncIterator[None]:
    try:
        async with deadlines.timeout():
            yield
    except client.exceptions.GoneException as error:
        raise ConnectionGone(f"Connection {to} is gone.") from error
    except (BotoCoreError, ClientError, OSError) as error:
        raise Unavailable(f"Connection {to} can't be reached.") from error
