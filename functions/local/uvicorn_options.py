"""How uvicorn is started."""

from typing import Any

from functions.local.http_protocol import HttpProtocol
from functions.local.websocket_protocol import WebSocketProtocol
from functions.websocket.dispatch import MESSAGE_MAX_BYTES

# Larger messages than are answered must still be received to be refused, so that the connection lives on.
FRAME_MAX_BYTES = 128 * MESSAGE_MAX_BYTES
PING_SECONDS = 20.0

OPTIONS: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "http": HttpProtocol,
    "ws": WebSocketProtocol,
    "ws_max_size": FRAME_MAX_BYTES,
    # Clients that are gone are found by pings; one that is there may be silent as long as it likes.
    "ws_ping_interval": PING_SECONDS,
    "ws_ping_timeout": PING_SECONDS,
}
