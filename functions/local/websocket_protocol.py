"""WebSockets under uvicorn, without what could reveal a secret in the log."""

import asyncio
import logging
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose URL, which may hold a ticket, is not logged."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn logs each handshake with its URL at `info`; `pipeline.logs` keeps this logger at `warning`.
        self.logger = logging.getLogger("uvicorn.websocket")

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The library's response to a handshake that it can't read; uvicorn would not send it.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        """Send one event of the application's."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # A response in place of a connection ends the handshake too; uvicorn would log an error.
            self.handshake_complete = True
