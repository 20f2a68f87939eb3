"""The options of uvicorn."""

from typing import Any

from functions.local.http_protocol import HttpProtocol
from functions.local.websocket_protocol import WebSocketProtocol
from functions.websocket.client_messages import MESSAGE_MAX_BYTES

PING_SECONDS = 20.0

OPTIONS: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,  # see `ProxyHeaders`
    "http": HttpProtocol,
    "ws": WebSocketProtocol,
    # A longer message closes its connection with 1009, as in API Gateway.
    "ws_max_size": MESSAGE_MAX_BYTES,
    # API Gateway has no compression either; a small frame could expand to a large message.
    "ws_per_message_deflate": False,
    # Pings detect disconnected clients; a connected client may be idle indefinitely.
    "ws_ping_interval": PING_SECONDS,
    "ws_ping_timeout": PING_SECONDS,
}
